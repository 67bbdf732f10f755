"""Tests for the local host: its modules, the Durable Functions scenarios and the golden traces."""
