"""Recordings of the original engine, condensed, and the player that runs them through this host's engine."""
