"""Offline tests of the templates. A template with a violation verifies each rule."""
