"""Condensed recordings of the original engine, and the player that replays them."""
