"""Unit tests of the shared modules, without a network and with a fixed time."""
