"""Tests for the landing store with the storage emulator."""
