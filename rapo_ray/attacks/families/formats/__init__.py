"""Families that write the request as data or as code, whole or in pieces."""
