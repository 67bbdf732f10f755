"""The house itself: what lives where, who may know whom, what is deployed. No behaviour of the app."""
