"""The doctor without a network: credentials and transports that lack one right, and the rules of its report."""
