"""`appliance delayed`: list and cancel messages that wait for their time, over the API."""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import click

from appliance.cli import options
from appliance.cli.text.words import counted, printable, size
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

#: Messages of one answer, at most.
_PAGE: Final = 1000
#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0


@click.group(cls=options.Group)
def delayed() -> None:
    r"""List messages that wait for their time; cancel them before it comes.

    A message that was published with `--delay` or `--deliver-at` is on disk, and becomes a row when
    it is due.

    \b
    Examples:
      appliance publish reminders 'call back' --delay 2h
      appliance delayed list
      appliance delayed cancel 01890a5d-ac96-774b-bcce-b302099a8057
    """


@delayed.command("list")
@options.AS_JSON
@click.pass_obj
def list_delayed(config: Config, *, as_json: bool) -> None:
    r"""List the messages that wait, the soonest due first. With --json, one a line.

    \b
    Examples:
      appliance delayed list
      appliance delayed list --json | jq -r 'select(.topic == "reminders") | .id'
    """
    count = 0
    with Client.of(config) as client:
        for each in _all(client):
            if as_json:
                click.echo(json.dumps(each))
                continue
            if not count:
                click.echo(_line("DUE", "ID", "SIZE", "TOPIC"))
            count += 1
            click.echo(
                _line(each["due_at"], each["id"], size(each["bytes"]), printable(each["topic"]))
            )
    if not as_json and not count:
        click.echo("no message waits for its time", err=True)


@delayed.command("cancel")
@click.argument("message_ids", metavar="ID...", nargs=-1, required=True)
@click.pass_obj
def cancel(config: Config, message_ids: tuple[str, ...]) -> None:
    r"""Cancel messages before they are due, so that they never become rows.

    \b
    Examples:
      appliance delayed cancel 01890a5d-ac96-774b-bcce-b302099a8057
      appliance delayed list --json | jq -r .id | xargs appliance delayed cancel
    """
    with Client.of(config) as client:
        for name in message_ids:
            path = f"/v1/delayed/{quote(name, safe='', errors='surrogateescape')}"
            answer = client.request("DELETE", path, patience=_PATIENCE)
            if answer.status == 404:
                raise InputError(answer.detail)
    click.echo(f"{counted(len(message_ids), 'message')} cancelled", err=True)


def _all(client: Client) -> Iterator[dict[str, Any]]:
    path = f"/v1/delayed?limit={_PAGE}"
    while True:
        page = client.request("GET", path, patience=_PATIENCE).json()
        yield from page["delayed"]
        if page["next"] is None:
            return
        path = f"/v1/delayed?limit={_PAGE}&after={page['next']}"


def _line(due: str, name: str, length: str, topic: str) -> str:
    return f"{due:<24}  {name:<36}  {length:>10}  {topic}".rstrip()
