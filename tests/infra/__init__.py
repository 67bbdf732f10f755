"""Offline tests for the templates. Each rule is verified with a template that violates it."""
