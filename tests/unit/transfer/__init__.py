"""The parts of a copy without any storage: proof, signatures, limits."""
