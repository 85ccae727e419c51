"""`appliance door mqtt`: the users of our own node that devices publish by, on its machine."""

import json
from typing import Any

import click

from appliance.broker.node import control, users
from appliance.cli import options
from appliance.config import Config
from appliance.errors import InputError
from appliance.model import grants

DOOR = "mqtt"


@click.group(DOOR, cls=options.Group)
def mqtt() -> None:
    r"""Let MQTT devices in, each under a user of its own or many under one.

    \b
    Example:
      appliance door mqtt user create kitchen --topics 'home.kitchen.*'
    """


@mqtt.group(cls=options.Group)
def user() -> None:
    r"""Make, list and remove users of the MQTT door. On the appliance's machine only.

    \b
    Examples:
      appliance door mqtt user create kitchen
      appliance door mqtt user list
      appliance door mqtt user remove kitchen
    """


@user.command()
@click.argument("name")
@click.option(
    "--topics",
    "topics",
    multiple=True,
    metavar="PATTERN",
    help="A topic that it may publish to, or a pattern such as 'home.kitchen.*', with dots for "
    "MQTT's slashes; can be repeated. Without this it may publish to every topic.",
)
@options.AS_JSON
@click.pass_obj
def create(config: Config, /, *, name: str, topics: tuple[str, ...], as_json: bool) -> None:
    r"""Make a user, and print its password, which is shown only now.

    \b
    Examples:
      appliance door mqtt user create kitchen
      appliance door mqtt user create kitchen --topics 'home.kitchen.*' --topics doors
    """
    named = grants.check_patterns(topics, ("publish",)) if topics else ()
    made, password = control.create_user(config, name, door=DOOR, topics=named)
    if as_json:
        click.echo(json.dumps({**_public(made), "password": password}))
        return
    click.echo(password)
    where = f"the topics {', '.join(named)}" if named else "every topic"
    click.echo(f"{name} may publish to {where}. This password is", err=True)
    click.echo("a secret, and is shown only now.", err=True)
    if not config.takes_mqtt:
        click.echo(
            "APPLIANCE_MQTT and APPLIANCE_MQTTS, as this command sees them, are off: set an "
            "address for the appliance.",
            err=True,
        )


@user.command("list")
@options.AS_JSON
@click.pass_obj
def list_users(config: Config, *, as_json: bool) -> None:
    r"""List the users, without their passwords.

    \b
    Example:
      appliance door mqtt user list
    """
    found = [_public(each) for each in users.read(config.broker_home) if each.door == DOOR]
    if as_json:
        click.echo(json.dumps({"users": found}))
        return
    if not found:
        click.echo("no user; `appliance door mqtt user create NAME` makes one", err=True)
    for each in found:
        click.echo(f"{each['name']:<40}  {each['created_at']}  {', '.join(each['topics'])}")


@user.command()
@click.argument("name")
@click.pass_obj
def remove(config: Config, name: str) -> None:
    r"""Remove a user, and end its connections.

    \b
    Example:
      appliance door mqtt user remove kitchen
    """
    if not control.remove_user(config, name, door=DOOR):
        raise InputError(f"there is no user {name}; `appliance door mqtt user list` shows them")
    click.echo(f"{name} is removed", err=True)


def _public(user: users.AmqpUser) -> dict[str, Any]:
    return {"name": user.name, "topics": user.topics or ["*"], "created_at": user.created_at}
