"""A bar on a terminal that shows how far a long command has come."""

import sys
from typing import Final

import click

from appliance.store.base import Progress

#: Characters of the bar.
_BAR: Final = 20


def progress_bar() -> Progress:
    """Return a function that shows a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _step, _share: True
    shown = ""

    def show(step: str, share: float | None) -> bool:
        nonlocal shown
        done = round((share or 0.0) * _BAR)
        bar = " " * (_BAR + 5) if share is None else f"{'#' * done:.<{_BAR}} {share:4.0%}"
        text = f"{step:<14}{bar}"
        if text != shown:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
            shown = text
        return True

    return show


def clear_bar() -> None:
    """Remove the bar."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
