"""Tests for the whole app in virtual time.

They use a real storage emulator and a simulation of the Microsoft services. Hours of virtual time
take milliseconds.
"""
