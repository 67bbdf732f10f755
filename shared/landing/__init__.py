"""What lies in the partner's container: names, marker and catalogue entry, and the store that reads and writes them. Copies no data."""
