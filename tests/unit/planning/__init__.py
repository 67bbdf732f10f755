"""Unit tests of the planning functions."""
