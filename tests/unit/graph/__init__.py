"""Tests for the Graph client with a fake transport."""
