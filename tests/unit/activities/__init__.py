"""Unit tests for the activities."""
