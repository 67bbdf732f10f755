"""The command line against an API at the transport: what it sends, what it prints, how it ends."""
