"""What a server does by itself: expiry, purging, forgetting."""
