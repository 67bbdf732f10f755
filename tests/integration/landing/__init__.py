"""The landing store against the emulator."""
