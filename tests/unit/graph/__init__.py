"""The Graph client at its transport: what it sends, and what it makes of every answer. No network."""
