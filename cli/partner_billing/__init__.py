"""Command-line client for the HTTP API of Partner Billing Export."""

__version__ = "0.1.0"
