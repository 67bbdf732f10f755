"""Tests of the simulator that use no network."""
