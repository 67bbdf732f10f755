"""Unit tests for request parsing and responses, without a Functions host."""
