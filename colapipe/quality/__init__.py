"""Numbers that say how far to trust a result, measured on the files that a run has left."""
