"""The families, one a module; none holds operational harm: a family transforms a request and explains nothing."""
