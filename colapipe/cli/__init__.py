"""The commands. Importing one imports nothing heavy; what a run needs is imported inside it."""
