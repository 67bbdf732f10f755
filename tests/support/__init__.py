"""What several tiers share: the whole app on one virtual clock. No tests in here."""
