"""The tables on the storage emulator: who was first, what is kept, what is undone by nobody."""
