"""The doctor: is everything set up right? One check for each right and dependency, by the run's own clients. Runs no export."""
