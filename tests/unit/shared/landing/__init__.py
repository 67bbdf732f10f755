"""Unit tests for the paths and documents in the landing."""
