"""The sum over an invoice's lines against its listed total, on lines of every kind."""
