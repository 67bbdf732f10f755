"""Paths and documents of the landing."""
