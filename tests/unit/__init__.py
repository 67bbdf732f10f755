"""No network, no processes: milliseconds each."""
