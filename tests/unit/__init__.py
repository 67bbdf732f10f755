"""Unit tests without network access or child processes. Each test takes milliseconds."""
