"""The orchestrators: nouns, because they last. They only determine the order of the activities.

The engine replays an orchestrator from the beginning at each step. An orchestrator therefore uses
no clock except the context's, and no environment, I/O or randomness. Everything that it decides
by is in its input.
"""
