"""How runs start and are seen: timers and HTTP. Nothing of what a run does lives here."""
