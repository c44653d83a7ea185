"""The write service: validates commands and appends their events to the log."""
