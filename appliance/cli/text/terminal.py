"""What others sent, made fit to be printed."""

import sys


def printable(text: str) -> str:
    """Return `text`; for a terminal, without what would steer it."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\t\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
