"""Credentials: who calls, by API key, JWT or certificate, and what they were granted."""
