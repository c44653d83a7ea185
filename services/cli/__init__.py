"""The ``twitter`` command: run the system on this machine, load it, look into it and check it."""
