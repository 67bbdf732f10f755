"""Preflight: one check for each permission and dependency of the app.

The checks use the same clients as the runs. They start no export.
"""
