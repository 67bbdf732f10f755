"""Copy blobs from the source account to the landing container and verify the copies."""
