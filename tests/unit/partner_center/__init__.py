"""Tests for the Partner Center client with a fake transport."""
