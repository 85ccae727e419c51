"""`appliance door`: the ways in, over the API."""

import json
import textwrap
from typing import Any, Final

import click

from appliance.cli import options
from appliance.client import Client
from appliance.config import Config

#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 10.0
#: Columns of a promise, and how far it stands in.
_WIDTH: Final = 96
_INDENT: Final = "  "
#: A door's reach -> in words.
_REACH: Final = {"machine": "for this machine only", "network": "for the network"}


@click.group(cls=options.Group)
def door() -> None:
    r"""Show the ways in, and the promises of each.

    \b
    Example:
      appliance door list
    """


@door.command("list")
@options.AS_JSON
@click.pass_obj
def list_doors(config: Config, *, as_json: bool) -> None:
    r"""List the doors: where each is, whether it is open now, and its promises.

    \b
    Examples:
      appliance door list
      appliance door list --json | jq -r '.doors[] | select(.open) | .name'
    """
    with Client.of(config) as client:
        found = client.request("GET", "/v1/doors", patience=_PATIENCE).json()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo("\n\n".join(map(_shown, found["doors"])))


def _shown(door: dict[str, Any]) -> str:
    """Return a door for people: a line for where it is, and a paragraph for each promise."""
    where = door["where"] or "at a broker of your own"
    state = "open" if door["open"] else "not open now"
    reach = f", {_REACH[door['reach']]}" if door["reach"] else ""
    promises = (
        ("acknowledged", "acknowledgement"),
        ("can be doubled", "doubled"),
        ("can be lost", "lost"),
    )
    paragraphs = (
        textwrap.fill(
            f"{words}: {door[name]}",
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=2 * _INDENT,
            break_on_hyphens=False,
        )
        for words, name in promises
    )
    return "\n".join((f"{door['name']}: {where}, {state}{reach}", *paragraphs))
