"""`appliance drill`: try the promise on this machine and this disk."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

import click

from appliance.broker.node import release
from appliance.cli import drill_loads, options
from appliance.cli.text.words import counted
from appliance.config import Config
from appliance.drill.drill import Drill, DrillReport, Plan
from appliance.drill.drilled_doors import DRILLED_DOORS, drilled_door
from appliance.drill.scratch import Scratch, make_folder
from appliance.model import quantities
from appliance.store import open_store
from appliance.store.base import Store

#: Seconds between two lines of progress where no terminal watches.
_LINE_SECONDS: Final = 10.0
#: A door -> in words, a time in which it acknowledged nothing.
_NONE: Final = {"http": "without any 202", "amqp": "without a confirm", "mqtt": "without a PUBACK"}


def _span(_ctx: click.Context, _parameter: click.Parameter, value: str) -> float:
    try:
        seconds = quantities.span(f"{value}s" if value.isdecimal() else value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not seconds:
        raise click.BadParameter("expected a span of time, for example 60s, 10m or 1h")
    return float(seconds)


@click.command()
@click.option(
    "--for", "seconds", default="60s", show_default=True, callback=_span,
    help="How long to kill processes: 60s, 10m, 1h.",
)  # fmt: skip
@click.option(
    "--data", "wanted", type=click.Path(file_okay=False, path_type=Path),
    help="Use this empty folder; by default a new one in the data folder.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=1),
    help="Limit the messages a second; by default there is no limit.",
)  # fmt: skip
@click.option(
    "--connections", type=click.IntRange(1, 256), default=8, show_default=True,
    help="Number of clients that send at the same time.",
)  # fmt: skip
@click.option(
    "--door", "through", type=click.Choice(DRILLED_DOORS), default="http", show_default=True,
    help="The way in that the clients use.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the scratch appliance's data and log.")
@options.AS_JSON
@click.pass_obj
def drill(
    config: Config,
    *,
    seconds: float,
    wanted: Path | None,
    rate: float | None,
    connections: int,
    through: str,
    keep: bool,
    as_json: bool,
) -> None:
    r"""Kill a scratch appliance's processes under load, and count the messages that it stored.

    The scratch appliance has data, ports and a token of its own. An appliance that runs here is not
    touched, but shares the machine. Clients send messages and note the answers, while broker,
    worker and API are killed (kill -9) in random order. Afterwards every message that was answered
    202 must be stored once, whole and in order. Ctrl-C ends the drill early, with a report.

    With --door amqp or mqtt the clients publish there, under a user of their own, and what counts
    is the confirm, or PUBACK. What that door says can be doubled is counted, and is no fault.

    Exit status: 0 the promise was kept, 1 it was broken, 78 the folder can't be used.

    \b
    Examples:
      appliance drill
      appliance drill --for 10m --rate 500
      appliance drill --door mqtt
      appliance drill --data /mnt/other-disk/drill --json
      docker exec inbox appliance drill --for 30s
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    knows_mqtt_5 = through == "mqtt" and release.find_server()[0] >= (4,)
    door = drilled_door(through, knows_mqtt_5=knows_mqtt_5)
    folder = make_folder(wanted, config.data)
    scratch = Scratch(folder, os.environ, mqtt=through == "mqtt")
    store = open_store(scratch.config)
    show = _Progress()
    try:
        report = Drill(
            scratch,
            Plan(seconds, connections, rate, door),
            load=drill_loads.load, rows=store.rows, problems=lambda: problems(store),
            show=show, stop=stop,
        ).run()  # fmt: skip
    finally:
        show.clear()
        scratch.remove(keep=keep)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        click.echo("\n".join(report_lines(report)))
    if keep:
        click.echo(f"the data is in {folder / 'data'}, the log is {scratch.log}", err=True)
    if report.faults or not report.accepted:
        sys.exit(1)


def problems(store: Store) -> list[str]:
    """Return the problems that `appliance verify` reports."""
    return store.verify(quick=False, alone=True, progress=lambda *_: None).problems


class _Progress:
    """Shows the progress on standard error: one line that changes, or a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = 0.0

    def __call__(self, text: str) -> None:
        if self._terminal:
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)
        elif time.monotonic() - self._last >= _LINE_SECONDS:
            self._last = time.monotonic()
            click.echo(text, err=True)

    def clear(self) -> None:
        """Leave the line empty."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


def report_lines(report: DrillReport) -> list[str]:
    """Write a report for people."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(report.kills.items()))
    rows = [
        ("sent", f"{report.sent:,}", ""),
        (report.word, f"{report.accepted:,}", f"{report.rate:,.0f} a second"),
        ("stored", f"{report.stored:,}", _lost_answers(report)),
        ("missing", f"{report.missing:,}", ""),
        (
            "twice",
            f"{report.twice:,}",
            "as the door says (appliance door list)" * bool(report.doubled),
        ),
        ("kills", f"{sum(report.kills.values()):,}", kills),
        ("longest outage", f"{report.longest_outage:.1f} s", _NONE[report.door]),
        *_requests(report),
        (
            "fsync",
            f"{report.fsync_p50 * 1000:.2f} ms",
            f"median; {report.fsync_p99 * 1000:.2f} ms at the 99th percentile",
        ),
    ]
    width = max(len(value) for _, value, _ in rows)
    lines = [f"{name:<14}  {value:>{width}}  {more}".rstrip() for name, value, more in rows]
    if report.faults:
        return [*lines, "THE PROMISE WAS BROKEN", *(f"  {fault}" for fault in report.faults)]
    if not report.accepted:
        return [*lines, "No message was accepted, so the drill proves nothing."]
    times = "once" if not report.doubled else "at least once"
    return [*lines, f"Every message that was {report.word} is stored {times}, whole and in order."]


def _lost_answers(report: DrillReport) -> str:
    """Explain the number of rows by that of the answers."""
    more = report.stored - (report.accepted - report.missing)
    if report.missing or report.twice > report.doubled or more < 0:
        return ""
    more -= report.doubled
    accepted = f"all {report.accepted:,} that were {report.word}"
    answer = "whose answer was lost" if more == 1 else "whose answers were lost"
    return f"{accepted}, and {more:,} {answer}" if more else accepted


def _requests(report: DrillReport) -> list[tuple[str, str, str]]:
    """Return lines of requests, not of messages: those that were refused, or got no answer."""
    rows = []
    if report.refused:
        rows.append(("answered 503", f"{report.refused:,}", _requests_word(report.refused)))
    if report.unanswered:
        rows.append(("no answer", f"{report.unanswered:,}", _requests_word(report.unanswered)))
    return rows


def _requests_word(count: int) -> str:
    return counted(count, "request").split(" ")[1]
