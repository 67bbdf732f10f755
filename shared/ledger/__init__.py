"""The tables in the partner's storage account: runs, cycles, versions, blobs, catalogue and locks."""
