"""Unit tests for the transfer without storage: verification, signatures and limits."""
