"""The scenarios, one module for each part of the system; each returns the figures of one or more rows."""
