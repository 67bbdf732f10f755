"""Tests that verify the links, commands, settings and examples in the documents."""
