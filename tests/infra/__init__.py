"""What can be told of the templates without Azure. Each check is shown able to fail by a template that breaks it."""
