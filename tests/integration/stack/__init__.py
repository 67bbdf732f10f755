"""Tests for the local stack, the demo and the landing verifier."""
