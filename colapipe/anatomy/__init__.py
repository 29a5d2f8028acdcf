"""The built-in engine as pure functions: brain mask, rigid registration, tissue, resampling."""
