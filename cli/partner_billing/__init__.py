"""Command-line client of the HTTP API of Partner Billing Export."""

__version__ = "0.1.0"
