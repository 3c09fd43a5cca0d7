"""Tools of the repository; the Makefile runs each of them as `python -m tools.NAME`."""
