"""Tests of the local host: its parts, the scenarios of durable-protocol section 9, and the golden traces."""
