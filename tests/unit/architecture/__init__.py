"""Tests for the source tree: layers, imports, pinned dependencies and host.json."""
