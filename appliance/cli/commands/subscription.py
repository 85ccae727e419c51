"""`appliance subscription`: make, list, show and remove subscriptions, over the API."""

import json
from typing import Any, Final
from urllib.parse import quote

import click

from appliance.cli import options
from appliance.cli.text.words import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

_PATH: Final = "/v1/subscriptions"
_HEAD: Final = ("NAME", "TOPICS", "LAG", "LEASED", "WAITING", "DEAD", "ACKNOWLEDGED")


@click.group(cls=options.Group)
def subscription() -> None:
    r"""Make, list, show and remove subscriptions, from which consumers pull messages.

    Each message of its topics goes to one of a subscription's consumers, and again to one where it
    was not acknowledged. Making and removing needs an administrator's token.

    \b
    Examples:
      appliance subscription create invoices --topic 'orders.*'
      appliance subscription list
      appliance receive invoices
    """


@subscription.command()
@click.argument("name")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    help="A topic, or a pattern such as 'orders.*'; repeat it for several. Every topic by default.",
)
@click.option(
    "--from",
    "begin",
    default="now",
    show_default=True,
    help="Where it begins: now, beginning, or a time or span such as 10m.",
)
@click.option(
    "--lease",
    type=click.IntRange(1, 43_200),
    default=60,
    show_default=True,
    help="Seconds in which a consumer must acknowledge a message.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How often a message is handed out before it is given up.",
)
@options.AS_JSON
@click.pass_obj
def create(
    config: Config,
    *,
    name: str,
    topics: tuple[str, ...],
    begin: str,
    lease: int,
    attempts: int,
    as_json: bool,
) -> None:
    r"""Make the subscription NAME.

    \b
    Examples:
      appliance subscription create invoices --topic 'orders.*'
      appliance subscription create archive --from beginning --lease 600 --attempts 10
    """
    asked = {
        "name": name,
        "topics": topics,
        "from": begin,
        "lease_seconds": lease,
        "max_attempts": attempts,
    }
    with Client.of(config) as client:
        body = json.dumps(asked).encode()
        answer = client.request("POST", _PATH, body, {"Content-Type": "application/json"})
    made = answer.json()
    if as_json:
        click.echo(json.dumps(made))
    else:
        click.echo(f"{name}: made; appliance receive {name} pulls its messages", err=True)


@subscription.command("list")
@options.AS_JSON
@click.pass_obj
def list_subscriptions(config: Config, *, as_json: bool) -> None:
    r"""List the subscriptions, and how many messages of each are where.

    \b
    Examples:
      appliance subscription list
      appliance subscription list --json | jq -r '.subscriptions[] | select(.lag > 1000) | .name'
    """
    with Client.of(config) as client:
        listed = client.request("GET", _PATH).json()
    if as_json:
        click.echo(json.dumps(listed))
        return
    rows = [_HEAD, *map(_row, listed["subscriptions"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo(printable("  ".join(cells).rstrip()))


@subscription.command()
@click.argument("name")
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, name: str, as_json: bool) -> None:
    r"""Show the subscription NAME.

    \b
    Example:
      appliance subscription show invoices
    """
    with Client.of(config) as client:
        answer = client.request("GET", _address(name))
    if answer.status == 404:
        raise _unknown(name)
    shown = answer.json()
    if as_json:
        click.echo(json.dumps(shown))
        return
    for member, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        click.echo(printable(f"{member.replace('_', ' '):<16}{text}"))


@subscription.command()
@click.argument("name")
@click.pass_obj
def remove(config: Config, *, name: str) -> None:
    r"""Remove the subscription NAME with its place; the messages stay stored.

    \b
    Example:
      appliance subscription remove invoices
    """
    with Client.of(config) as client:
        answer = client.request("DELETE", _address(name))
    if answer.status == 404:
        raise _unknown(name)
    click.echo(f"{name}: removed", err=True)


def _address(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _unknown(name: str) -> InputError:
    return InputError(f"there is no subscription {name!r}; appliance subscription list")


def _row(made: dict[str, Any]) -> tuple[str, ...]:
    counts = (str(made[name]) for name in ("leased", "waiting", "dead", "acknowledged"))
    lag = f"{made['lag']}{'+' if made['lag_is_more'] else ''}"
    return (made["name"], ",".join(made["topics"]), lag, *counts)
