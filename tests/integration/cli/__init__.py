"""Tests for the command line with a running app."""
