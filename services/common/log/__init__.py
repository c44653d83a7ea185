"""The durable log: one Redis Stream, appended to by one script, followed from any position."""
