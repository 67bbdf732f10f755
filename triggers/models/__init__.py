"""The request and response documents of the HTTP API, one module for each resource."""
