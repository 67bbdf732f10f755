"""Unit tests of the tie-out of invoice lines with the invoice total."""
