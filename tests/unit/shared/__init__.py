"""Unit tests for the shared modules, without a network and with a fixed time."""
