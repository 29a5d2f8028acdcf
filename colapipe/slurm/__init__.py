"""A run as SLURM jobs: what the cluster wants to know, job scripts, submission, what came of it."""
