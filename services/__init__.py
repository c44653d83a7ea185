"""twitter-clone: three services over one durable log."""
