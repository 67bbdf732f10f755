"""Orchestration histories that the engine recorded.

The tests in tests/durable/test_histories.py replay them. See tests/support/histories.py for the
code that records them.
"""
