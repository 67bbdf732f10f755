"""Client for the invoice list of Partner Center."""
