"""Plans, commits and retention of versions in the storage emulator."""
