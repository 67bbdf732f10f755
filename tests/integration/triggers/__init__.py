"""The HTTP API through the host: status codes, headers, bodies and failures of the app."""
