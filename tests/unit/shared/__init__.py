"""The pure parts of the domain: words, times, errors, the wall, settings, manifests.

No network, no clock but a given one.
"""
