"""Attacks as transformations: a family is one, a chain of k families is an attack of complexity k (pure)."""
