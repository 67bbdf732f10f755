"""Unit tests of the activities."""
