"""What lies in the partner's container: names, marker, catalogue entry, and the store for them. Copies no data."""
