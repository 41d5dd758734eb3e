"""Families of the encodings: the request in other signs, with the wish to decode it."""
