"""The benchmark: Sojourn against the floor, the peers, and a store of a million sessions.

Run by `make bench`; what is measured and how is in docs/explanation/performance.md.
"""
