"""Orchestrations on virtual time: the whole app, real storage emulator, simulated Microsoft, hours in milliseconds."""
