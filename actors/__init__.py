"""Thin Ray endpoints over classes that know no Ray."""
