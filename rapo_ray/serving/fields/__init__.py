"""Types of a request's fields."""
