"""One self-contained HTML page per subject: figures, scores, warnings and methods text."""
