"""`appliance inbox`: addresses for senders that can't send a token, over the API."""

import json
import sys
from typing import Any, Final
from urllib.parse import quote

import click

from appliance.auth.signatures.kinds import KINDS
from appliance.cli import options
from appliance.cli.inbox_options import (
    KIND,
    SECRET_FILE,
    read_secret,
    settings_of,
    settings_options,
)
from appliance.cli.text.inbox_text import after_making, table, whole
from appliance.client import Answer, Client
from appliance.config import Config
from appliance.errors import InputError

_PATH: Final = "/v1/inboxes"
#: Seconds of retrying while the appliance is unreachable or busy, where that is harmless.
_PATIENCE: Final = 10.0

_OLD_FOR: Final = click.option(
    "--old-for", metavar="SPAN", help="For how long the one before is still good, such as 1d or 0s."
)


@click.group(cls=options.Group)
def inbox() -> None:
    r"""Make secret addresses for senders that can't send a token: webhooks, forms, devices.

    An address takes messages for one topic, and checks who signed them. Its secret is shown once.

    \b
    Examples:
      appliance inbox create pushes --kind github --secret-file secret.txt
      appliance inbox create contact --kind form --redirect https://example.com/thanks
      appliance inbox list
      appliance inbox rotate pushes
      appliance inbox revoke contact
    """


@inbox.command()
@click.argument("topic", callback=options.topic)
@KIND
@click.option("--name", help="The inbox's name; by default the topic's.")
@SECRET_FILE
@settings_options
@options.AS_JSON
@click.pass_obj
def create(
    config: Config,
    /,
    *,
    topic: str,
    kind: str | None,
    name: str | None,
    secret_files: tuple[str, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Make an address that takes messages into TOPIC, and print it.

    Secrets come from files or standard input, never from the command line. Several of them count at
    once. What a kind does not know can be set: see the options.

    \b
    Examples:
      appliance inbox create pushes --kind github --secret-file secret.txt
      appliance inbox create payments --kind stripe --secret-file - < secret.txt
      appliance inbox create readings --kind open --key-path '$.id' --allow-get
      appliance inbox create contact --kind form --redirect https://example.com/thanks
      appliance inbox create till --kind hmac --header X-Signature --encoding base64 \
          --secret-file secret.txt
      appliance inbox create zoom --kind hmac --header X-Zm-Signature --prefix v0= \
          --template 'v0:{timestamp}:{body}' --timestamp-header X-Zm-Request-Timestamp \
          --challenge zoom --secret-file secret.txt
    """
    wanted: dict[str, Any] = {
        "topic": topic,
        "kind": kind or "open",
        "secrets": [read_secret(path) for path in secret_files],
        "settings": settings_of(settings),
    }
    if kind is None and secret_files:
        raise click.UsageError("give --kind: who signs with this secret?")
    if name is not None:
        wanted["name"] = name
    made = _send(config, "POST", "", wanted).json()
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(made["address"])
    for line in after_making(made):
        click.echo(line, err=True)


@inbox.command("list")
@options.AS_JSON
@click.pass_obj
def list_inboxes(config: Config, *, as_json: bool) -> None:
    r"""List inboxes, without their secrets.

    \b
    Example:
      appliance inbox list
    """
    found = _send(config, "GET", "").json()
    if as_json:
        click.echo(json.dumps(found))
    elif found["inboxes"]:
        click.echo(table(found["inboxes"]))
    else:
        click.echo("no inbox; `appliance inbox create TOPIC` makes one", err=True)


@inbox.command()
@click.argument("name")
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, name: str, as_json: bool) -> None:
    r"""Show an inbox: its topic, kind and settings, and the ids of its secrets.

    \b
    Example:
      appliance inbox show pushes
    """
    found = _of(config, "GET", name).json()
    click.echo(json.dumps(found) if as_json else whole(found))


@inbox.command()
@click.argument("name")
@click.option("--topic", callback=options.topic, help="Where messages go from now on.")
@KIND
@click.option("--unset", multiple=True, metavar="SETTING", help="Give a setting its default back.")
@SECRET_FILE
@settings_options
@options.AS_JSON
@click.pass_obj
def change(
    config: Config,
    /,
    *,
    name: str,
    topic: str | None,
    kind: str | None,
    unset: tuple[str, ...],
    secret_files: tuple[str, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    r"""Change an inbox's topic, kind or settings. Its address stays.

    \b
    Examples:
      appliance inbox change payments --tolerance 600
      appliance inbox change contact --unset redirect
      appliance inbox change pushes --kind github --secret-file secret.txt
    """
    given = {"topic": topic, "kind": kind}
    wanted: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if secret_files:
        wanted["secrets"] = [read_secret(path) for path in secret_files]
    wanted["settings"] = settings_of(settings) | dict.fromkeys(
        each.replace("-", "_") for each in unset
    )
    changed = _of(config, "PATCH", name, "", wanted).json()
    click.echo(json.dumps(changed) if as_json else whole(changed))


@inbox.command()
@click.argument("name")
@_OLD_FOR
@options.AS_JSON
@click.pass_obj
def rotate(config: Config, *, name: str, old_for: str | None, as_json: bool) -> None:
    r"""Make another address for an inbox, and print it. The one before is good for a day.

    Where the address is known to others, end it at once: --old-for 0s.

    \b
    Examples:
      appliance inbox rotate pushes
      appliance inbox rotate pushes --old-for 0s
    """
    made = _of(config, "POST", name, "/rotate", {"old_for": old_for} if old_for else {}).json()
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(made["address"])
    click.echo(f"The address before it is good until {made['old_until']}.", err=True)


@inbox.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.pass_obj
def revoke(config: Config, *, name: str, yes: bool) -> None:
    r"""Revoke an inbox: its address is unknown from now on. Messages are kept.

    \b
    Example:
      appliance inbox revoke contact
    """
    if not yes and sys.stdin.isatty():
        click.confirm(f"Revoke the inbox {name}?", abort=True, err=True)
    _of(config, "DELETE", name)
    click.echo(f"{name} is revoked", err=True)


@inbox.command("add-secret")
@click.argument("name")
@SECRET_FILE
@_OLD_FOR
@options.AS_JSON
@click.pass_obj
def add_secret(
    config: Config,
    *,
    name: str,
    secret_files: tuple[str, ...],
    old_for: str | None,
    as_json: bool,
) -> None:
    r"""Take what is signed with a further secret too, while the sender's is changed.

    \b
    Examples:
      appliance inbox add-secret payments --secret-file new.txt --old-for 1d
      appliance inbox add-secret pushes --secret-file - < new.txt
    """
    if len(secret_files) != 1:
        raise click.UsageError("give one --secret-file")
    wanted = {"secret": read_secret(secret_files[0])} | ({"old_for": old_for} if old_for else {})
    added = _of(config, "POST", name, "/secrets", wanted).json()
    if as_json:
        click.echo(json.dumps(added))
    else:
        click.echo(f"secret {added['id']} of {name} counts from now on", err=True)


@inbox.command("remove-secret")
@click.argument("name")
@click.argument("number", type=click.IntRange(1))
@click.pass_obj
def remove_secret(config: Config, *, name: str, number: int) -> None:
    r"""Take what is signed with a secret no more; `show` lists them by number.

    \b
    Example:
      appliance inbox remove-secret payments 3
    """
    _of(config, "DELETE", name, f"/secrets/{number}")
    click.echo(f"secret {number} of {name} counts no more", err=True)


@inbox.command()
def kinds() -> None:
    r"""List the kinds of senders, and how each is checked.

    \b
    Example:
      appliance inbox kinds
    """
    for kind in KINDS.values():
        click.echo(f"{kind.name:<10}{kind.help}")


def _of(
    config: Config, method: str, name: str, rest: str = "", members: dict[str, Any] | None = None
) -> Answer:
    """Return the answer about the inbox of this name. Raises InputError where there is none."""
    answer = _send(config, method, f"/{quote(name, safe='')}{rest}", members)
    if answer.status == 404:
        raise InputError(answer.detail)
    return answer


def _send(config: Config, method: str, path: str, members: dict[str, Any] | None = None) -> Answer:
    body = None if members is None else json.dumps(members).encode()
    # Whatever makes something is sent once: a second attempt would make another.
    patience = _PATIENCE if method in ("GET", "PATCH") else 0.0
    with Client.of(config) as client:
        headers = {"Content-Type": "application/json"} if body else {}
        return client.request(method, _PATH + path, body, headers, patience=patience)
