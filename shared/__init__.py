"""The domain: what an export is, how it is asked for, copied, proven, landed and recorded.

Knows nothing of Durable Functions or of triggers.
"""
