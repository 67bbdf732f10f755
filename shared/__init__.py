"""The domain logic: exports are requested, copied, proven, landed and recorded here.

The package does not import Durable Functions or the triggers.
"""
