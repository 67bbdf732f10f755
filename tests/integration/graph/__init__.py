"""Tests for the Graph client with real connections."""
