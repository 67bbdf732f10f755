"""Tests of the Graph client with real connections."""
