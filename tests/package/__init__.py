"""Tests for the deployment package and its bill of materials."""
