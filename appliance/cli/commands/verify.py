"""The command `verify`: whether every accepted message is in the store or on its way there."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from appliance.cli import options, verifying
from appliance.cli.text.verify_text import Queue, lines
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.store import open_store
from appliance.store.base import Store
from appliance.store.verification import Verification


@click.command()
@click.option("--quick", is_flag=True, help="Skip comparing every index entry with its row.")
@click.option(
    "--database",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check this file, for example a backup, instead of the appliance's database.",
)
@click.option(
    "--accept",
    is_flag=True,
    help="Acknowledge the messages currently missing; later runs report only new losses.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="First correct counters that differ from their rows, and make indexes that are gone anew.",
)
@options.AS_JSON
@click.pass_obj
def verify(
    config: Config, *, quick: bool, database: Path | None, accept: bool, repair: bool, as_json: bool
) -> None:
    r"""Check that no accepted message is missing, while the appliance runs or when it is stopped.

    It runs SQLite's own check of the file, compares the topics' counters with their rows, counts
    dead letters, and finds by the ledger whether a confirmed envelope was never stored. What other
    people added to the database (a column, an index, a trigger, a view, a table) is named as
    `yours` and is no fault. It only reads, unless it is told to --accept or to --repair. Exit
    status: 0 all is well, 1 something is wrong (or the file can't be read), 2 wrong usage.

    \b
    Examples:
      appliance verify
      appliance verify --quick --json | jq .problems
      appliance verify --repair
      appliance verify --database /backups/appliance-2026-11-21.db
    """
    began = time.monotonic()
    store = open_store(config)
    checked = store if database is None else store.of_backup(database)
    if accept:
        count = checked.accept_missing()
        click.echo(f"missing envelopes acknowledged: {count:,}", err=True)
    if repair:
        for done in checked.repair(_go_on):
            click.echo(done, err=True)
    verification = checked.verify(
        quick=quick, alone=database is not None, progress=_show if _watched() else _hide
    )
    if database is None:
        queue = _look_at_queue(config, store, verification)
    else:
        queue = Queue(reason="not looked at for a file")
    verifying.judge_unknown(verification)
    _clear()
    answer = verifying.answer(verification, queue, time.monotonic() - began)
    text = "\n".join(lines(verification, queue, alone=database is not None))
    click.echo(json.dumps(answer, indent=2) if as_json else text)
    if verification.problems:
        sys.exit(1)


def _look_at_queue(config: Config, store: Store, verification: Verification) -> Queue:
    client = Client(replace(config, url=""))  # the one beside this database
    show = _show if _watched() else _hide
    try:
        return verifying.look_at_queue(config, store, verification, lambda: _broker(client), show)
    finally:
        client.close()


def _broker(client: Client) -> dict[str, Any]:
    answer = client.request("GET", "/v1/status")
    if answer.status != 200:
        raise ApplianceError(answer.detail)
    broker: dict[str, Any] = answer.json()["broker"]
    return broker


def _watched() -> bool:
    return sys.stderr.isatty()


def _show(step: str, seconds: float) -> None:
    click.echo(f"\r\x1b[Kchecking: {step} ... {seconds:.0f} s ", nl=False, err=True)


def _go_on(_seconds: float) -> bool:
    """Never stop a repair: Ctrl-C ends the program, and what is corrected by then stays."""
    return False


def _hide(step: str, seconds: float) -> None:
    """Show nothing: there is no terminal."""


def _clear() -> None:
    if _watched():
        click.echo("\r\x1b[K", nl=False, err=True)
