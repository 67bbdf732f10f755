"""All tests, grouped by tier.

This `__init__.py` is required because the durable wheel installs its own top-level `tests`.
"""
