"""What will be done for whom, and why not: the decisions of a run, before anything runs.

Everything here works on names and headers only. ``--dry-run`` prints the plan, the workflows carry
it out, and the report repeats its notes.
"""
