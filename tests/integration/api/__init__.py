"""Tests for the HTTP API of a complete app: its responses and the number of its table requests."""
