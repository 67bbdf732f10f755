"""Unit tests for the orchestration policies, without a Durable Task engine."""
