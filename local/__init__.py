"""Local development: storage emulator, simulator and Functions host. Never deployed."""
