"""The simulator as its clients see it: over HTTP, with the real SDKs, with blobs in the emulator."""
