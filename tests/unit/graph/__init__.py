"""Tests of the Graph client with a fake transport."""
