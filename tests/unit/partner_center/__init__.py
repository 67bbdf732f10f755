"""Tests of the Partner Center client with a fake transport."""
