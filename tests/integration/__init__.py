"""Tests with the real SDKs, the real storage emulator and the simulator."""
