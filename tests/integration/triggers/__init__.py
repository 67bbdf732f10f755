"""The HTTP API through the host: status codes, headers, bodies, and what is said when the app cannot."""
