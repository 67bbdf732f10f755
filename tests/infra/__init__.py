"""Offline tests of the templates. Each rule is verified with a template that violates it."""
