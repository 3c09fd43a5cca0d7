"""The change feed: one reader of each app's log, and everybody who follows it."""
