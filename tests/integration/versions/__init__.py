"""Planning and committing versions on the storage emulator: a hand-made manifest, a copier that only writes."""
