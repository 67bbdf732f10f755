"""Tests of the local stack, the demo and the landing verifier."""
