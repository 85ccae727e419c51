"""The command `topics`."""

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from appliance.cli import options
from appliance.cli.text.words import printable, size
from appliance.client import Client
from appliance.config import Config

#: Topics of one answer, at most.
_PAGE: Final = 1000
#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0
#: Columns of a topic's name before the others move to the right.
_NAME_WIDTH: Final = 24


@click.command()
@options.AS_JSON
@click.pass_obj
def topics(config: Config, *, as_json: bool) -> None:
    r"""List the topics by name, with their messages, their size, and the last message's time.

    With --json, one object a line.

    \b
    Examples:
      appliance topics
      appliance topics --json | jq -r 'select(.messages > 1000) | .topic'
    """
    count = messages = total = 0
    with Client.of(config) as client:
        for topic in _all(client):
            if as_json:
                click.echo(json.dumps(topic))
                continue
            if not count:
                click.echo(_line("TOPIC", "MESSAGES", "SIZE", "LAST MESSAGE"))
            count += 1
            messages += topic["messages"]
            total += topic["bytes"]
            name, number = printable(topic["topic"]), f"{topic['messages']:,}"
            click.echo(_line(name, number, size(topic["bytes"]), topic["last_at"]))
    if not as_json and not count:
        click.echo("no topic yet; send a message: appliance publish test hello", err=True)
    elif not as_json and count > 1:
        click.echo(_line(f"{count:,} topics", f"{messages:,}", size(total), ""))


def _all(client: Client) -> Iterator[dict[str, Any]]:
    path = f"/v1/topics?limit={_PAGE}"
    while True:
        page = client.request("GET", path, patience=_PATIENCE).json()
        yield from page["topics"]
        if page["next"] is None:
            return
        path = f"/v1/topics?limit={_PAGE}&after={page['next']}"


def _line(topic: str, messages: str, length: str, last: str) -> str:
    return f"{topic:<{_NAME_WIDTH}}  {messages:>12}  {length:>12}  {last}".rstrip()
