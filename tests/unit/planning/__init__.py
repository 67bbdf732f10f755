"""Unit tests for the planning functions."""
