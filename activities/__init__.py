"""The activities: verbs, because they act. Each one parses its input, calls `shared` and returns.

An activity can run more than once, so its docstring states why a repetition does no harm.
"""
