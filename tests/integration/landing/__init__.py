"""The landing store in the storage emulator."""
