"""What orchestrators decide by, without an engine."""
