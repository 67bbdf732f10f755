"""The simulator without its server: data, sums, switches, faults, manifests, the checker."""
