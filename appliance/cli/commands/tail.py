"""The command `tail`."""

import json
import sys
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, Final

import click

from appliance.cli import options
from appliance.cli.text.words import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

#: Seconds between two looks for new messages: prompt to a person, nothing to the API.
_POLL_SECONDS: Final = 0.5
#: Seconds for which `tail` goes on asking an API that is away, for a restart for instance.
_PATIENCE: Final = 60.0
#: Messages in one answer while following.
_PAGE: Final = 1000

_EMPTY: Final[dict[str, Any]] = {"messages": [], "next": None, "newest": None}


@click.command()
@click.argument("topic", callback=options.topic)
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, _PAGE),
    default=10,
    show_default=True,
    help="Begin with this many of the last messages.",
)
@click.option("--since", help="Begin with all since then: 10m, 2h, 1d or an ISO 8601 time.")
@click.option(
    "-f/-F",
    "--follow/--no-follow",
    default=True,
    show_default="follow",
    help="Wait for more messages until Ctrl-C, or end.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object a line on standard output, and nothing else.",
)
@click.pass_obj
def tail(
    config: Config, *, topic: str, count: int, since: str | None, follow: bool, as_json: bool
) -> None:
    r"""Print TOPIC's last messages, and then each new one as it is stored.

    Each message follows its time; bytes that are no text are printed as base64. A topic that does
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
    if answer.status == 404:
        if not follow:
            raise InputError(answer.detail)
        if sys.stderr.isatty():
            click.echo(
                f"waiting for the first message of {topic}; "
                f"to send one: appliance publish {topic} hello",
                err=True,
            )
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
        answer = client.request("GET", url, patience=_PATIENCE)
        page = _EMPTY if answer.status == 404 else answer.json()
        yield from page["messages"]
        cursor, more = page["newest"] or cursor, page["next"]


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="", errors="surrogateescape")


def _line(message: dict[str, Any]) -> str:
    return f"{message['received_at']}  {printable(str(message['body']))}"
