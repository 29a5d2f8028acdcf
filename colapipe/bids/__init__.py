"""BIDS: read a dataset, find derivatives, and name and describe what the app writes."""
