"""The history: how each second of the last quarter of an hour was, and each minute of two weeks."""
