"""The landing container: its layout, its documents, and a client for small blobs."""
