"""To be written: aiecs."""
