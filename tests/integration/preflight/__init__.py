"""Tests for the preflight with the storage emulator and the simulator."""
