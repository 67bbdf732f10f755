"""All tests, by tier.

An `__init__.py` is needed: the durable wheel installs a top-level `tests` of its own.
"""
