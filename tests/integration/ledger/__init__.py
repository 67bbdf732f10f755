"""Integration tests for the ledger with the table service of the Azurite emulator."""
