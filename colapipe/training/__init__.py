"""Training a CoLa-Diff: slices from datasets, augmentation, the loop, and exact resume."""
