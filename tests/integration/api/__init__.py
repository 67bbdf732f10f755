"""The API of a complete app: its responses, and the table requests that they take."""
