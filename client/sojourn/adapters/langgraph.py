"""To be written: langgraph."""
