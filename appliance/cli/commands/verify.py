"""The command `verify`: whether every accepted message is in the store or on its way there."""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click

from appliance.broker.publish import last_words
from appliance.cli import options
from appliance.cli.text.verify_text import Queue, lines
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.model.ledger import LedgerEntry
from appliance.store import open_store
from appliance.store.base import Store
from appliance.store.verification import LedgerSums, Verification

#: Seconds without progress after which confirmed envelopes no longer count as on their way to a
#: row: longer than the broker needs to count its queue right after a crash.
_STILL: Final = 5.0
#: Seconds between two looks at the envelopes on their way.
_LOOK: Final = 0.25
#: Seconds after which the wait ends, though there is progress.
_PATIENCE: Final = 60.0


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
    _judge_unknown(verification)
    _clear()
    answer = {
        "ok": not verification.problems,
        **asdict(verification),
        "queue": asdict(queue),
        "seconds": round(time.monotonic() - began, 2),
    }
    text = "\n".join(lines(verification, queue, alone=database is not None))
    click.echo(json.dumps(answer, indent=2) if as_json else text)
    if verification.problems:
        sys.exit(1)


def _look_at_queue(config: Config, store: Store, verification: Verification) -> Queue:
    """Ask the running API, and wait until the envelopes that it confirmed are in the store."""
    client = Client(replace(config, url=""))  # the one beside this database
    try:
        broker = _broker(client)
        said = broker["numbers"]
        entry = None if said is None else LedgerEntry(**said)
        if verification.sources is not None and entry is not None:
            _excuse_running(verification.sources, entry.source)
            broker, not_stored = _wait(client, store, entry)
            _judge(verification, broker, not_stored)
        else:
            not_stored = None
    except ApplianceError as error:
        return Queue(reason=str(error), not_stored=_left(config, store, verification))
    finally:
        client.close()
    reason = None if broker["depth"] is not None else broker["reason"] or "not looked at yet"
    return Queue(broker["depth"], broker["consumers"], not_stored, reason)


def _left(config: Config, store: Store, verification: Verification) -> int | None:
    """Return how many envelopes are no rows, of those that API processes noted as confirmed."""
    if verification.sources is None:
        return None
    count = sum(store.unaccounted(entry) for entry in last_words.recorded(config.data))
    if count:
        verification.notes.append(
            f"confirmed envelopes that are not stored: {count:,}; while the API is away it is not "
            "known whether they wait in the queue"
        )
    return count


def _broker(client: Client) -> dict[str, Any]:
    answer = client.request("GET", "/v1/status")
    if answer.status != 200:
        raise ApplianceError(answer.detail)
    broker: dict[str, Any] = answer.json()["broker"]
    return broker


def _wait(client: Client, store: Store, entry: LedgerEntry) -> tuple[dict[str, Any], int]:
    """Return the API's last view of the broker, and how many confirmed envelopes are no rows.

    Returns when there are none, or nothing has moved for a while.
    """
    end = time.monotonic() + _PATIENCE
    state, since = (-1, -1), time.monotonic()
    while True:
        not_stored = store.unaccounted(entry)
        broker = _broker(client)
        now = time.monotonic()
        if state != (not_stored, broker["depth"]):
            state, since = (not_stored, broker["depth"]), now
        if not not_stored or now - since > _STILL or now > end:
            return broker, not_stored
        if _watched():
            _show(f"{not_stored:,} envelopes are on their way to the store", now - since)
        time.sleep(_LOOK)


def _judge(verification: Verification, broker: dict[str, Any], not_stored: int) -> None:
    """Judge whether confirmed envelopes that are no rows can still become rows."""
    depth = broker["depth"]
    if not not_stored:
        return
    if depth is None or not_stored <= depth:
        verification.notes.append(f"confirmed envelopes that wait to be stored: {not_stored:,}")
    elif broker["consumers"]:
        verification.problems.append(
            f"confirmed envelopes that are not stored: {not_stored:,}, while {depth:,} wait in the "
            "queue; a worker holds the others and can't store them, or they are lost"
        )
    else:
        verification.problems.append(
            f"envelopes missing: {not_stored - depth:,}; they were confirmed, are not stored, and "
            "neither the queue nor a worker has them"
        )


def _excuse_running(sources: LedgerSums, running: str) -> None:
    """Take the envelopes that a running API has not settled as under way, not as unknown."""
    for gap in sources.gaps:
        if gap.source == running:
            sources.unknown -= gap.unknown
            gap.unknown, gap.unknown_ranges = 0, []
    sources.gaps = [gap for gap in sources.gaps if gap.missing or gap.unknown]


def _judge_unknown(verification: Verification) -> None:
    if verification.sources is not None and verification.sources.unknown:
        verification.notes.append(
            "envelopes that have not come, and of which it is not known whether they were "
            f"confirmed: {verification.sources.unknown:,}; their API process was killed before it "
            "could say, or this is a copy"
        )


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
