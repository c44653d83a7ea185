"""What every service shares: the log, the projection, the views and the web frame."""
