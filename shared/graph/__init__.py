"""Client for the partner billing export API of Microsoft Graph.

The package handles HTTP and JSON only; it does not depend on runs or the landing.
"""
