"""A run's bookkeeping: tools, memory, locks, work folder, what is finished and what failed."""
