"""Tests for the command line with a fake HTTP transport: requests, output and exit codes."""
