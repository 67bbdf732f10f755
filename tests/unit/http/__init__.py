"""Tests of `shared/http`."""
