"""The Graph client over real sockets: against the simulator, and in a fresh interpreter."""
