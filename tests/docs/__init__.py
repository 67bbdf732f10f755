"""Tests of the documents: links, commands, settings and examples are correct."""
