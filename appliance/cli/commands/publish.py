"""The command `publish`."""

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from appliance.cli import options
from appliance.cli.sending import Sender, Sent
from appliance.cli.text.words import counted
from appliance.cli.unfinished import UnfinishedRun
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError, FolderError

#: Messages below which a rate says nothing.
_LEAST_FOR_A_RATE: Final = 1000
#: Bytes of a file that are looked at to tell text from other content, and bytes that text never
#: holds: control characters, but for those that move a printer or colour a terminal.
_LOOK_BYTES: Final = 8192
_NO_TEXT: Final = frozenset(range(32)) - frozenset(b"\t\n\f\r\b\x07\x1b")
#: Byte order marks of UTF-16, as Windows programs write them.
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


@click.command()
@click.argument("topic", callback=options.topic)
@click.argument("text", required=False)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send each line of this file as a message.",
)
@click.option("--ndjson", is_flag=True, help="Each line must be JSON.")
@click.option(
    "--on-bad",
    type=click.Choice(["refuse", "dead-letter"]),
    default="refuse",
    show_default=True,
    help="What becomes of a line that is too long or not JSON: it refuses its batch and ends the "
    "run, or it alone becomes a dead letter.",
)
@click.option(
    "--from-start",
    is_flag=True,
    help="Send all of --file, though a run that was interrupted sent a part of it.",
)
@click.option("--whole", is_flag=True, help="Send the file, or standard input, as one message.")
@click.option(
    "--wait", is_flag=True, help="Return once the last message is a row (waits up to 30 s)."
)
@click.option("--delay", metavar="SPAN", help="Make it a row after this span, such as 10m or 2d.")
@click.option(
    "--deliver-at", metavar="TIME", help="Make it a row at this time: ISO 8601 or a Unix time."
)
@click.option(
    "--ttl", metavar="SPAN", help="Let it be over after this span as a row: hidden, then deleted."
)
@click.option("--expires-at", metavar="TIME", help="Let it be over at this time.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Keep retrying for this many seconds while the appliance is unreachable or busy.",
)
@options.AS_JSON
@click.pass_obj
def publish(
    config: Config,
    *,
    topic: str,
    text: str | None,
    path: Path | None,
    ndjson: bool,
    on_bad: str,
    from_start: bool,
    whole: bool,
    wait: bool,
    delay: str | None,
    deliver_at: str | None,
    ttl: str | None,
    expires_at: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    r"""Send TEXT, or each line of standard input (-) or of a file, to TOPIC.

    Empty lines are skipped. Lines are sent in order, in batches; a batch is kept as a whole or not
    at all. A batch without an answer is sent again, and is stored once. A run with --file that was
    interrupted is gone on with by the same command, and no line is stored twice.

    Exit status: 0 every message, or its dead letter, is on the appliance's disk, 1 refused, 2 wrong
    usage, 69 not reachable, 77 token refused.

    \b
    Examples:
      appliance publish orders 'two of those'
      appliance publish logs --file /var/log/dpkg.log
      appliance publish events --file events.ndjson --ndjson --on-bad dead-letter
      appliance publish reminders 'call back' --delay 2h
      appliance publish codes 493117 --ttl 10m
      journalctl -f -o cat | appliance publish journal -
      appliance publish photos --whole --file cat.jpg
      APPLIANCE_URL=http://10.0.0.5:8080 APPLIANCE_TOKEN=... appliance publish orders hello
    """
    _check_source(text, path, whole=whole)
    if (whole or (not path and text != "-")) and (ndjson or on_bad != "refuse"):
        raise click.UsageError("--ndjson and --on-bad are for lines: of standard input or --file")
    if from_start and (whole or not path):
        raise click.UsageError("--from-start is for the lines of --file")
    if delay and deliver_at:
        raise click.UsageError("give --delay or --deliver-at, not both")
    if ttl and expires_at:
        raise click.UsageError("give --ttl or --expires-at, not both")
    if wait and (delay or deliver_at):
        raise click.UsageError("--wait is for messages that become rows at once")
    further = {
        "delay": delay, "deliver-at": deliver_at, "ttl": ttl, "expires-at": expires_at,
    }  # fmt: skip
    with Client.of(config) as client:
        sender = Sender(
            client,
            topic,
            patience=timeout,
            keeps_good=on_bad == "dead-letter",
            ndjson=ndjson,
            further={name: value for name, value in further.items() if value},
        )
        run = None
        if path and not whole:
            run = _publish_file(sender, path, f"{topic}\0{client.url}", anew=from_start)
        elif path or text == "-":
            _publish_input(sender, path, whole)
        else:
            sender.send_one(os.fsencode(text or ""))
        if wait:
            sender.wait()
    _report(sender.sent, single=not path and text != "-", as_json=as_json)
    if run:
        run.finish()  # as late as can be: whoever is killed before it goes on


def _check_source(text: str | None, path: Path | None, *, whole: bool) -> None:
    if path and text is not None:
        raise click.UsageError("give TEXT or --file, not both")
    if not path and text is None:
        raise click.UsageError("give TEXT, - for standard input, or --file FILE")
    if whole and not path and text != "-":
        raise click.UsageError("--whole goes with --file or -")
    if path and not whole:
        _check_text(path)


def _check_text(path: Path) -> None:
    """Look whether a file's beginning is lines of text, in whatever encoding without NUL."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_LOOK_BYTES)
    except OSError:
        return  # reading it will say why not
    if _NO_TEXT & set(beginning):
        hint = "(or give it as standard input)"
        if beginning.startswith(_UTF_16):
            hint = "(for its lines: iconv -f utf-16 -t utf-8 FILE | appliance publish TOPIC -)"
        raise click.UsageError(f"{path} is not text: --whole sends it as one message {hint}")


def _publish_input(sender: Sender, path: Path | None, whole: bool) -> None:
    """Send the content of a file or of standard input."""
    try:
        with open(path or 0, "rb", buffering=0, closefd=path is not None) as file:
            if whole:
                sender.send_one(file.read())
                return
            _send_lines(sender, file.fileno())
    except OSError as error:
        raise ApplianceError(f"{path or 'standard input'}: {error.strerror}") from error


def _publish_file(sender: Sender, path: Path, where: str, *, anew: bool) -> UnfinishedRun | None:
    """Send the lines of a file, from where a run that was interrupted stopped.

    Returns the run, to be finished; None where its progress is not noted.
    """
    try:
        with path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            run = None
            if stat.S_ISREG(os.fstat(descriptor).st_mode):  # a pipe comes only once
                run = _run_of(path, descriptor, where, anew=anew)
            if run is None:
                _send_lines(sender, descriptor)
                return None
            if run.resumed_at:
                sender.sent.resumed_at = run.line
                click.echo(
                    f"going on at line {run.line}, where the run of {run.resumed_at} stopped "
                    "(--from-start sends all of it)",
                    err=True,
                )
            batches = sender.send_file(descriptor, run)
            _show_progress(sender, batches, os.fstat(descriptor).st_size, run.offset)
            return run
    except OSError as error:
        raise ApplianceError(f"{path}: {error.strerror}") from error


def _run_of(path: Path, descriptor: int, where: str, *, anew: bool) -> UnfinishedRun | None:
    try:
        return UnfinishedRun.of(path, descriptor, where, anew=anew)
    except FolderError as error:
        click.echo(
            f"{error}; if this run is interrupted, none can go on with it (XDG_STATE_HOME names "
            "another folder)",
            err=True,
        )
        return None


def _send_lines(sender: Sender, descriptor: int) -> None:
    """Send an input's lines; show the progress on a terminal."""
    batches = sender.send_lines(descriptor)
    _show_progress(sender, batches, os.fstat(descriptor).st_size, 0)


def _show_progress(sender: Sender, batches: Iterator[int], size: int, begun: int) -> None:
    """Send all batches of an input of `size` bytes (0: unknown), of which `begun` were sent."""
    if not sys.stderr.isatty():
        for _ in batches:
            pass
    elif size:
        with click.progressbar(length=size, file=sys.stderr, show_pos=False) as bar:
            bar.update(begun)
            for done in batches:
                bar.update(done)
    else:  # a pipe or a terminal: its length is unknown
        for _ in batches:
            click.echo(f"\r{counted(sender.sent.messages, 'message')} ", nl=False, err=True)
        click.echo("\r", nl=False, err=True)


def _report(sent: Sent, *, single: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(sent.as_dict()))
    elif single:
        click.echo(sent.last_id)
    if not single:
        rate = ""
        if sent.messages >= _LEAST_FOR_A_RATE:
            rate = f" in {sent.seconds:.1f} s ({sent.rate:,.0f} a second)"
        verb = "is" if sent.messages == 1 else "are"
        click.echo(
            f"{counted(sent.messages, 'message')} ({counted(sent.bytes, 'byte')}){rate} {verb} on "
            "the appliance's disk",
            err=True,
        )
    if sent.dead:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sent.dead.items())
        dead = sent.dead.total()
        word = "a dead letter" if dead == 1 else "dead letters"
        click.echo(
            f"{counted(dead, 'message' if single else 'line')} became {word} ({reasons}): "
            "appliance dead list",
            err=True,
        )
