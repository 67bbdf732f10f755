"""Unit tests for the tie-out of invoice lines with the invoice total."""
