"""The command `tail`."""

import json
import sys
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

import click

from appliance.cli import options
from appliance.cli.stream_client import follow as follow_stream
from appliance.cli.text.words import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

#: Messages in one answer.
_PAGE: Final = 1000

_EMPTY: Final[dict[str, Any]] = {"messages": [], "next_url": None, "newest": None}


@click.command()
@click.argument("topic", required=False, callback=options.topic)
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
    config: Config,
    *,
    topic: str | None,
    count: int,
    since: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    r"""Print TOPIC's last messages, and then each new one as it is stored.

    Without TOPIC, those of all topics. Each message follows its time and, without TOPIC, its topic;
    bytes that are no text are printed as base64. A topic that does not exist yet is waited for, and
    an API that restarts too: nothing is left out, and nothing printed twice.

    \b
    Examples:
      appliance tail
      appliance tail orders
      appliance tail orders -n 100 --no-follow
      appliance tail sensors --since 10m --json | jq -r .body
    """
    with Client.of(config) as client:
        try:
            for message in _messages(client, topic, count, since, follow=follow):
                click.echo(json.dumps(message) if as_json else _line(message, topic))
        except KeyboardInterrupt:
            return


def _messages(
    client: Client, topic: str | None, count: int, since: str | None, *, follow: bool
) -> Iterator[dict[str, Any]]:
    path = f"/v1/topics/{topic}" if topic else "/v1"
    if since is not None:
        begin = {"since": since}
        if not follow:
            yield from _pages(client, f"{path}/messages", begin)
            return
    else:
        page = _page(client, f"{path}/messages?limit={max(count, 1)}", must_be=not follow)
        if page is _EMPTY and sys.stderr.isatty():
            _tell(
                f"waiting for the first message of {topic}; "
                f"to send one: appliance publish {topic} hello"
            )
        yield from page["messages"][:count][::-1]
        begin = {"after": page["newest"] or "0"}
    if follow:
        yield from follow_stream(client, f"{path}/stream", begin, _tell)


def _pages(client: Client, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield all messages that the query asks for, oldest first."""
    asked = {"after": "0", "limit": str(_PAGE), **query}
    url = f"{path}?{urlencode(asked, errors='surrogateescape')}"
    while True:
        page = _page(client, url, must_be=True)
        yield from page["messages"]
        if page["next_url"] is None:
            return
        url = f"{path}?{page['next_url'].partition('?')[2]}"


def _page(client: Client, url: str, *, must_be: bool) -> dict[str, Any]:
    """Return a page; an empty one of a topic that does not exist, unless it must."""
    answer = client.request("GET", url)
    if answer.status != 404:
        page: dict[str, Any] = answer.json()
        return page
    if must_be:
        raise InputError(answer.detail)
    return _EMPTY


def _tell(words: str) -> None:
    """Say something to a person, apart from the messages."""
    for line in words.splitlines():
        click.echo(f"appliance tail: {printable(line)}", err=True)


def _line(message: dict[str, Any], topic: str | None) -> str:
    body = printable(str(message["body"]))
    return "  ".join([message["received_at"], *([] if topic else [message["topic"]]), body])
