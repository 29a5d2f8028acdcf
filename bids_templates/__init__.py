"""Templates: BIDS name patterns, sidecars and dataset descriptions, and the report page."""
