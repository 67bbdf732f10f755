"""Histories of orchestrations as the engine recorded them, and the script that records them.

Replayed by tests/durable.
"""
