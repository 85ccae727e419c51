"""Moves all that is stored to another database, for `appliance export --to`, and undoes it."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import click

from appliance.cli.progress_bar import clear_bar, progress_bar
from appliance.cli.text.words import counted, printable
from appliance.config import Config, parsers
from appliance.errors import FolderError
from appliance.store import open_store
from appliance.store.base import Store
from appliance.store.moving import MoveOutcome, move

#: Bytes of a file with a URL that are read.
_URL_BYTES: Final = 10_000
#: Characters of a digest that are shown to people.
_DIGEST: Final = 12


def named_store(config: Config, to: str | None, file: Path | None) -> Store:
    """Return the store that the options name. Raises UsageError, FolderError."""
    if to is not None and file is not None:
        raise click.UsageError("give either --to or --to-file")
    text = to if file is None else _read(file)
    assert text is not None  # noqa: S101  # one of them is given
    if text.partition(":")[0] == "sqlite":
        store = open_store(replace(config, database_url="", database_read_url=""))
        path = text.removeprefix("sqlite").removeprefix(":").removeprefix("//")
        return store.of_backup(Path(path).absolute()) if path else store
    try:
        url = parsers.database_url(text)
    except ValueError as error:
        raise click.UsageError(f"--to: {error}, or sqlite:FILE") from error
    if not url:
        raise click.UsageError("--to: expected postgresql://... or sqlite:FILE")
    if file is None and _has_password(url):
        raise click.UsageError(
            "--to: everyone on this machine can read a password that is an argument; write the URL "
            "into a file that only you can read, and give --to-file FILE"
        )
    return open_store(replace(config, database_url=url, database_read_url=""))


def move_store(config: Config, target: Store, *, as_json: bool) -> None:
    """Move all rows from the store of the settings to another one, and say what was moved."""
    source, began = open_store(config), time.monotonic()
    try:
        with source.departing() as leaving, target.arriving() as arriving:
            outcome = move(leaving, arriving, progress_bar())
    finally:
        clear_bar()
    seconds = time.monotonic() - began
    if as_json:
        report = {
            "from": source.location,
            "to": target.location,
            "tables": [each._asdict() for each in outcome.tables],
            "changed": outcome.changed,
            "moved_before": outcome.was_moved_before,
            "seconds": round(seconds, 2),
        }
        click.echo(json.dumps(report, indent=2))
        return
    click.echo("\n".join(_table(outcome)))
    for line in _words(outcome, source.location, target.location, seconds):
        click.echo(line, err=True)


def reopen_store(config: Config, *, yes: bool) -> None:
    """Let the store of the settings take messages again, though it was moved."""
    store = open_store(config)
    click.echo(
        f"{store.location} will take messages again. What the other database has stored since the "
        "move is not in it, and must not be stored by both.",
        err=True,
    )
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to confirm on; give --yes to undo")
        click.confirm("Undo the move?", abort=True, err=True)
    mark = store.reopen()
    if mark is None:
        click.echo(f"{store.location} was not moved: it takes messages", err=True)
    else:
        click.echo(f"undone: the move to {printable(mark.target)} at {mark.at}", err=True)


def _table(outcome: MoveOutcome) -> list[str]:
    """Return a line for each table that has rows: how many, and the digest in both databases."""
    filled = [each for each in outcome.tables if each.rows]
    width = max((len(each.name) for each in filled), default=5)
    return [
        f"{each.name:<{width}}  {each.rows:>14,}  {each.digest[:_DIGEST]}  the same in both"
        for each in filled
    ]


def _words(outcome: MoveOutcome, source: str, target: str, seconds: float) -> list[str]:
    """Return what was done, and what to do next."""
    messages = counted(outcome.tables[0].rows, "message")
    if outcome.was_moved_before:
        return [f"{source} was moved to {target} before, and all is there: {messages}"]
    lines = [f"moved {messages} and all that belongs to them to {target} in {seconds:.1f} s"]
    if outcome.changed:
        lines.append(
            f"texts of {counted(outcome.changed, 'row')} had a NUL, which this engine can't keep; "
            "U+FFFD is in its place"
        )
    setting = "with" if target.startswith("postgresql:") else "without"
    lines.append(f"{source} takes no messages any more: they wait in the queue")
    lines.append(
        f"next: stop the appliance, and start it on the same data folder {setting} "
        "APPLIANCE_DATABASE_URL"
    )
    return lines


def _read(file: Path) -> str:
    """Return the URL in a file, as the twin of a secret setting has it."""
    try:
        with file.open(encoding="utf-8") as text:
            return text.read(_URL_BYTES).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f"--to-file: {file} can't be read: {error}") from error


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password" in parse_qs(parts.query)
