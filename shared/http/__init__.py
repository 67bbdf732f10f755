"""Bounded, authenticated HTTP requests to the services of Microsoft.

The clients for Microsoft Graph and Partner Center add only what differs between the two APIs.
"""
