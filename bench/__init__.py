"""Benchmarks. Each module is a program; none is deployed or part of the tests."""
