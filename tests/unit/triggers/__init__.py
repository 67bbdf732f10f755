"""Unit tests of request parsing and responses, without a Functions host."""
