"""What is due, when, and within which limits: pure functions, with the year's end in every table."""
