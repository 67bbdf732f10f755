"""The command line against the real app over HTTP."""
