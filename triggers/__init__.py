"""Timers and HTTP functions, which start runs and show them.

What a run does is in the orchestrations and activities.
"""
