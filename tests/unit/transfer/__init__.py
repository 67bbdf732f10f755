"""Unit tests of the transfer without storage: verification, signatures and limits."""
