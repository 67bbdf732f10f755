"""The stack as processes: that it starts, holds its state dir, ends with its parent, and that the demo proves what it says."""
