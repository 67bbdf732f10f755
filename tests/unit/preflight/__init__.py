"""Tests of the preflight without a network."""
