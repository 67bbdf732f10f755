"""Tests for the HTTP API through the host: status codes, headers, bodies and app failures."""
