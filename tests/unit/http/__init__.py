"""Tests for `shared/http`."""
