"""What happened: the tables in the partner's account. Locks, runs, versions, blobs, catalogue. Knows nothing of blobs' bytes."""
