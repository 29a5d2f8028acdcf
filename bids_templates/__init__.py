"""Templates: BIDS name patterns, sidecars, dataset descriptions, the report page, SLURM scripts."""
