"""Microsoft Graph's partner billing export, as this app uses it. Knows of HTTP and JSON; nothing of runs or landings."""
