"""To be written: claude."""
