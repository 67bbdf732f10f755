"""Unit tests of the orchestration policies, without a Durable Task engine."""
