"""The API over the whole app: what it answers to, in which words, and at what price in requests to the tables."""
