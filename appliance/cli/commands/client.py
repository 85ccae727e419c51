"""Commands that talk to the API, from this machine or another: `publish`, `tail`, `status`."""

import json
import os
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from appliance.cli.sending import Sender, Sent
from appliance.cli.text.status_text import status_lines
from appliance.cli.text.terminal import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError, InputError, TopicError
from appliance.model.topics import check_topic

#: Seconds between two looks for new messages: prompt to a person, nothing to the API.
_POLL_SECONDS: Final = 0.5
#: Seconds for which `tail` goes on asking an API that is away, a restart for instance.
_TAIL_PATIENCE: Final = 60.0
#: Messages in one answer while following.
_PAGE: Final = 1000


def _topic(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return check_topic(value)
    except TopicError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("topic", callback=_topic)
@click.argument("text", required=False)
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send each line of this file as a message.",
)
@click.option("--whole", is_flag=True, help="Send the file, or standard input, as one message.")
@click.option("--wait", is_flag=True, help="Return once the last message is a row (30 s at most).")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to try again while the appliance is away or refuses for now.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON object on stdout.")
@click.pass_obj
def publish(
    config: Config,
    *,
    topic: str,
    text: str | None,
    path: Path | None,
    whole: bool,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    r"""Send TEXT, or each line of standard input (-) or of a file, to TOPIC.

    Empty lines are skipped. Lines go in batches, in their order; a batch is kept whole or not at
    all, and sent again where it is not known to be kept, without ever being stored twice. Exit
    status: 0 all is on the appliance's disk, 1 refused, 2 wrong usage, 69 not reachable.

    \b
    Examples:
      appliance publish orders 'two of those'
      appliance publish logs --file /var/log/dpkg.log
      journalctl -f -o cat | appliance publish journal -
      appliance publish photos --whole --file cat.jpg
      APPLIANCE_URL=http://10.0.0.5:8080 APPLIANCE_TOKEN=... appliance publish orders hello
    """
    if path and text is not None:
        raise click.UsageError("give TEXT or --file, not both")
    if not path and text is None:
        raise click.UsageError("give TEXT, - for standard input, or --file FILE")
    if whole and not path and text != "-":
        raise click.UsageError("--whole goes with --file or -")
    with Client.of(config) as client:
        sender = Sender(client, topic, patience=timeout)
        if path or text == "-":
            _publish_input(sender, path, whole)
        else:
            sender.send_one(os.fsencode(text or ""))
        if wait:
            sender.wait()
    _report(sender.sent, single=not path and text != "-", as_json=as_json)


def _publish_input(sender: Sender, path: Path | None, whole: bool) -> None:
    """Send a file's or standard input's content."""
    try:
        with open(path or 0, "rb", buffering=0, closefd=path is not None) as file:
            if whole:
                sender.send_one(file.read())
                return
            _send_lines(sender, file.fileno())
    except OSError as error:
        raise ApplianceError(f"{path or 'standard input'}: {error.strerror}") from error


def _send_lines(sender: Sender, descriptor: int) -> None:
    """Send an input's lines; show how far it is to a person who watches."""
    batches = sender.send_lines(descriptor)
    size = os.fstat(descriptor).st_size
    if not sys.stderr.isatty():
        for _ in batches:
            pass
    elif size:
        with click.progressbar(length=size, file=sys.stderr, show_pos=False) as bar:
            for done in batches:
                bar.update(done)
    else:  # a pipe or a terminal: its end is not known
        for _ in batches:
            click.echo(f"\r{sender.sent.messages:,} messages ", nl=False, err=True)
        click.echo("\r", nl=False, err=True)


def _report(sent: Sent, *, single: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(sent.as_dict()))
    elif single:
        click.echo(sent.last_id)
    if not single:
        click.echo(
            f"{sent.messages:,} messages ({sent.bytes:,} bytes) in {sent.seconds:.1f} s "
            f"({sent.rate:,.0f} a second) are on the appliance's disk",
            err=True,
        )


@click.command()
@click.argument("topic", callback=_topic)
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, _PAGE),
    default=10,
    show_default=True,
    help="How many of the last messages to begin with.",
)
@click.option("--since", help="Begin with all since then: 10m, 2h, 1d or an ISO 8601 time.")
@click.option("--follow/--no-follow", default=True, help="Wait for more (until Ctrl-C), or don't.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def tail(
    config: Config, *, topic: str, count: int, since: str | None, follow: bool, as_json: bool
) -> None:
    r"""Print TOPIC's last messages, and then each new one as it is stored.

    Each is printed after its time; bytes that are no text are printed as base64. A topic that does
    not exist yet is waited for.

    \b
    Examples:
      appliance tail orders
      appliance tail orders -n 100 --no-follow
      appliance tail sensors --since 10m --json | jq -r .body
    """
    with Client.of(config) as client:
        try:
            for message in _messages(client, topic, count, since, follow):
                click.echo(json.dumps(message) if as_json else _line(message))
        except KeyboardInterrupt:
            return


def _messages(
    client: Client, topic: str, count: int, since: str | None, follow: bool
) -> Iterator[dict[str, Any]]:
    path = f"/v1/topics/{topic}/messages"
    if since is None:
        answer = client.request("GET", f"{path}?limit={max(count, 1)}")
    else:
        answer = client.request("GET", f"{path}?after=0&limit={_PAGE}&since={_quote(since)}")
    if answer.status == 404 and not follow:
        raise InputError(answer.detail)
    page = _EMPTY if answer.status == 404 else answer.json()
    if since is None:
        yield from page["messages"][:count][::-1]
    else:
        yield from page["messages"]
    cursor = page["newest"] or "0"
    more = since is not None and page["next"]
    while follow or more:
        if not more:
            time.sleep(_POLL_SECONDS)
        url = f"{path}?after={cursor}&limit={_PAGE}"
        if since is not None:
            url += f"&since={_quote(since)}"
        answer = client.request("GET", url, patience=_TAIL_PATIENCE)
        page = _EMPTY if answer.status == 404 else answer.json()
        yield from page["messages"]
        cursor, more = page["newest"] or cursor, page["next"]


_EMPTY: Final[dict[str, Any]] = {"messages": [], "next": None, "newest": None}


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="", errors="surrogateescape")


def _line(message: dict[str, Any]) -> str:
    return f"{message['received_at']}  {printable(str(message['body']))}"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The API's own answer.")
@click.pass_obj
def status(config: Config, as_json: bool) -> None:
    r"""Show processes, broker, queue, store and disk.

    Exit status: 0 ready, 1 not ready (the reasons are shown), 69 not reachable.

    \b
    Examples:
      appliance status
      appliance status --json | jq .broker.depth
    """
    with Client.of(config) as client:
        answer = client.request("GET", "/v1/status")
        if answer.status == 404:
            raise ApplianceError(f"{client.url} is not the appliance's API")
        found = answer.json()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(status_lines(found, client.url)))
    if not found["ready"]:
        sys.exit(1)
