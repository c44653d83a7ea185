"""The read service: answers reads from a private replica that follows the log."""
