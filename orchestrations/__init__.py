"""Nouns: they last. The order of things and nothing else; every fact and every effect is an activity's.

An orchestrator is run again from its beginning at each step, with its history: so no clock but the context's, no
environment, no I/O, no randomness here. What it decides by comes in its input, the policies are pure functions.
"""
