"""Real SDKs against the real storage emulator and the simulator."""
