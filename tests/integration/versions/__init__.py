"""Tests for plans, commits and retention of versions with the storage emulator."""
