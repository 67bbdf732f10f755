"""Everything that runs the app on a laptop: host, simulator, storage emulator. Development only, never deployed."""
