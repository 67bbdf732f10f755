"""Measurements, each runnable by itself; nothing here is deployed or tested by chance."""
