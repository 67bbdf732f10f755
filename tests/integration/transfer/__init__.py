"""Copies between two storage accounts, and from a server with invalid responses."""
