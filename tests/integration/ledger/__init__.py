"""Integration tests of the ledger with the Table service of the Azurite emulator."""
