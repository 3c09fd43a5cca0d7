"""The Sojourn server: sessions for AI agents, over gRPC."""
