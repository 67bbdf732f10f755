"""Read the text lines of stored blobs: gzip or plain, in pieces of any size."""
