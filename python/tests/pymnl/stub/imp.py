"""An empty module in place of Python's, which 3.12 removed: pymnl's setup.py imports it, and pip runs that."""
