"""To be written: openai_agents."""
