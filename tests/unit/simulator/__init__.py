"""Tests for the simulator that use no network."""
