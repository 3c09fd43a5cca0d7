"""The client's calls, lists and handles."""
