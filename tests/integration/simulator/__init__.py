"""Tests for the simulator over HTTP, with plain clients and with the SDKs."""
