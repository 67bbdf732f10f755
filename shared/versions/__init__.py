"""Plan, commit and prune the versions of an export in the landing container and the ledger."""
