"""Tests for copies between two storage accounts, and from a server that sends invalid responses."""
