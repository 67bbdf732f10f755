"""Tests of the deployment package and its bill of materials."""
