"""Verbs: they act. One file each: parse, call shared, answer with one small dict. What they raise is the platform's fault.

An activity may run twice. Each is idempotent and says why; each begins by asking the ledger whether its run may go on.
"""
