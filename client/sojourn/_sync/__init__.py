# Generated from client/sojourn/_async/__init__.py by `make gen`. Edit the source, never this file.
"""The client's calls, lists and handles."""
