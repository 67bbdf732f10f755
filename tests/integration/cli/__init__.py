"""The command line with a running app."""
