"""`appliance door`: the ways in, over the API, and the users of our own node, on its machine."""

import json
import textwrap
from typing import Any, Final

import click

from appliance.broker.node import control, users
from appliance.cli import options
from appliance.cli.commands import door_mqtt
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 10.0
#: Columns of a promise, and how far it stands in.
_WIDTH: Final = 96
_INDENT: Final = "  "
#: A door's reach -> in words.
_REACH: Final = {"machine": "for this machine only", "network": "for the network"}

#: A door that listens nowhere here -> in words.
_NOWHERE: Final = {
    "amqp": "at a broker of your own",
    "mqtt": "off (APPLIANCE_MQTT or _MQTTS opens it)",
}


@click.group(cls=options.Group)
def door() -> None:
    r"""Show the ways in, and the promises of each; let AMQP and MQTT clients in.

    \b
    Examples:
      appliance door list
      appliance door amqp user create till
      appliance door mqtt user create kitchen
    """


door.add_command(door_mqtt.mqtt)


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


@door.group(cls=options.Group)
def amqp() -> None:
    r"""Let AMQP clients in, each under a user of its own.

    \b
    Example:
      appliance door amqp user create till
    """


@amqp.group(cls=options.Group)
def user() -> None:
    r"""Make, list and remove users of the appliance's own broker. On its machine only.

    \b
    Examples:
      appliance door amqp user create till
      appliance door amqp user create reports --subscribe
      appliance door amqp user list
      appliance door amqp user remove till
    """


@user.command()
@click.argument("name")
@click.option(
    "--subscribe",
    "subscribes",
    is_flag=True,
    help="It may bind queues of its own, named appliance.sub.NAME. and more, to the exchanges of "
    "stored messages, and read them; it may not publish. Without this and --queue it may publish, "
    "and do nothing else.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="QUEUE",
    help="It may declare this queue, and publish to it by the default exchange; for a program that "
    "knows no exchange. APPLIANCE_DRAIN takes the queue's messages in. Can be repeated.",
)
@options.AS_JSON
@click.pass_obj
def create(
    config: Config, /, *, name: str, subscribes: bool, queues: tuple[str, ...], as_json: bool
) -> None:
    r"""Make a user, and print its password, which is shown only now.

    \b
    Examples:
      appliance door amqp user create till
      appliance door amqp user create reports --subscribe
      appliance door amqp user create old-till --queue hello
    """
    if subscribes and queues:
        raise InputError("--subscribe and --queue are for two users")
    made, password = control.create_user(config, name, subscribes=subscribes, queues=queues)
    if as_json:
        click.echo(json.dumps({**_public(made), "password": password}))
        return
    click.echo(password)
    click.echo(f"{name} may {_rights(made)}. This password is", err=True)
    click.echo("a secret, and is shown only now.", err=True)
    undrained = set(made.queues) - {each.queue for each in config.drain}
    if undrained:
        names = ",".join(sorted(undrained))
        click.echo(
            f"APPLIANCE_DRAIN, as this command sees it, lacks {names}: add it for the appliance.",
            err=True,
        )


@user.command("list")
@options.AS_JSON
@click.pass_obj
def list_users(config: Config, *, as_json: bool) -> None:
    r"""List the users, without their passwords.

    \b
    Example:
      appliance door amqp user list
    """
    found = [_public(each) for each in users.read(config.broker_home) if each.door == "amqp"]
    if as_json:
        click.echo(json.dumps({"users": found}))
        return
    if not found:
        click.echo("no user; `appliance door amqp user create NAME` makes one", err=True)
    for each in found:
        may = " ".join((each["may"], *each["queues"]))
        click.echo(f"{each['name']:<40}  {may:<15}  {each['created_at']}")


@user.command()
@click.argument("name")
@click.pass_obj
def remove(config: Config, name: str) -> None:
    r"""Remove a user, and end its connections. Its queues stay until they are unused for a week.

    \b
    Example:
      appliance door amqp user remove till
    """
    if not control.remove_user(config, name):
        raise InputError(f"there is no user {name}; `appliance door amqp user list` shows them")
    click.echo(f"{name} is removed", err=True)


def _public(user: users.AmqpUser) -> dict[str, Any]:
    may = "subscribe" if user.subscribes else "queue" if user.queues else "publish"
    queues = list(user.queues)
    return {"name": user.name, "may": may, "queues": queues, "created_at": user.created_at}


def _rights(user: users.AmqpUser) -> str:
    if user.queues:
        return f"declare and publish to {', '.join(user.queues)}"
    if user.subscribes:
        return f"bind queues appliance.sub.{user.name}.* to the exchange appliance.stored"
    return "publish to the exchange appliance"


def _shown(door: dict[str, Any]) -> str:
    """Return a door for people: a line for where it is, and a paragraph for each promise."""
    where = door["where"] or _NOWHERE[door["name"]]
    state = ", open" if door["open"] else ", not open now" if door["where"] else ""
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
    return "\n".join((f"{door['name']}: {where}{state}{reach}", *paragraphs))
