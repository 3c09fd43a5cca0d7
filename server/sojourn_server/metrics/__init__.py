"""What the server tells Prometheus: every metric is a line of `metrics.table`.

Counts are plain numbers that the event loop writes and the page's thread reads; the
library makes them into a page and serves it. Why: docs/decisions/0011-metrics.md.
"""
