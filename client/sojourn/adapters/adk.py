"""To be written: adk."""
