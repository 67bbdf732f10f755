"""Fixtures and helpers that several test suites use. This package contains no tests."""
