"""Orchestration histories that the engine recorded.

The tests in tests/durable/test_histories.py replay them. The code in tests/support/histories.py
records them.
"""
