"""The store as a SQLite file; the only package that knows SQLite."""
