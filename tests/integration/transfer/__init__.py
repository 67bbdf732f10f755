"""Whole copies between two accounts of the emulator, and from a hostile double of storage."""
