"""The store in a SQLite file: the only package that knows SQLite."""
