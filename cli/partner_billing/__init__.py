"""A client of the app's HTTP API, with commands and a progress display. Nothing of the app is imported here."""

__version__ = "0.1.0"
