"""That the documents are true: links, settings and commands that they name exist."""
