"""Tests for the preflight without a network."""
