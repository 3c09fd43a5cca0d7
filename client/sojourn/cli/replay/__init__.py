"""Plays recorded agent sessions against a server, measures, and reads everything back."""
