"""The tables in the partner's account: runs, cycles, versions, blobs, catalogue, locks."""
