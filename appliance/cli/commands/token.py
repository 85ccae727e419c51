"""`appliance token`: print the administrator's token; make, list and revoke others over the API."""

import json
from typing import Any, Final
from urllib.parse import quote

import click

from appliance import credentials
from appliance.cli import options
from appliance.cli.text.words import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError, InputError
from appliance.model.grants import RIGHTS

_PATH: Final = "/v1/tokens"
_HEAD: Final = ("NAME", "RIGHTS", "TOPICS", "RATE", "EXPIRES", "LAST USED")


@click.group(cls=options.Group, invoke_without_command=True)
@click.pass_context
def token(ctx: click.Context) -> None:
    r"""Print the administrator's token, which is made now if there is none yet.

    The commands below make, list and revoke tokens with fewer rights; they talk to the API as an
    administrator.

    \b
    Examples:
      curl -H "Authorization: Bearer $(appliance token)" http://127.0.0.1:8080/v1/topics
      appliance token create till --right publish --topic 'orders.*'
      appliance token list
      appliance token revoke till
    """
    if ctx.invoked_subcommand is None:
        click.echo(credentials.token(ctx.obj))


@token.command()
@click.argument("name")
@click.option(
    "--right",
    "rights",
    multiple=True,
    required=True,
    type=click.Choice(RIGHTS),
    help="What it may do; repeat it for several. An administrator may do everything.",
)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    help="A topic that it is for, or a pattern such as 'orders.*'; repeat it for several. Every "
    "topic by default.",
)
@click.option("--expires", help="When it ends: in 12h or 90d, or at a time such as 2027-01-31.")
@click.option("--rate", help="How many requests are served, such as 10/s, 100/m or 5000/h.")
@options.AS_JSON
@click.pass_obj
def create(
    config: Config,
    *,
    name: str,
    rights: tuple[str, ...],
    topics: tuple[str, ...],
    expires: str | None,
    rate: str | None,
    as_json: bool,
) -> None:
    r"""Make the token NAME, and print it. It is kept nowhere: this is the only time it is shown.

    \b
    Examples:
      appliance token create till --right publish --topic orders --rate 100/m
      appliance token create report --right read --topic 'orders.*' --expires 90d
      appliance token create anna --right admin > anna.token
    """
    asked: dict[str, Any] = {"name": name, "rights": rights, "topics": topics}
    asked |= {"expires": expires, "rate": rate}
    with Client.of(config) as client:
        body = json.dumps(asked).encode()
        answer = client.request("POST", _PATH, body, {"Content-Type": "application/json"})
        if answer.status == 404:
            raise _other_version(client)
    made = answer.json()
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(made["token"])
    topics_text = "every topic" if made["topics"] == ["*"] else ", ".join(made["topics"])
    click.echo(
        f"{made['name']}: {', '.join(made['rights'])} for {topics_text}; "
        f"{_end(made['expires_at'])}. It is not shown again.",
        err=True,
    )


@token.command("list")
@options.AS_JSON
@click.pass_obj
def list_tokens(config: Config, *, as_json: bool) -> None:
    r"""List the tokens but the administrator's own, with the last use of each.

    \b
    Examples:
      appliance token list
      appliance token list --json | jq -r '.tokens[] | select(.last_used_at == null) | .name'
    """
    with Client.of(config) as client:
        answer = client.request("GET", _PATH)
        if answer.status == 404:
            raise _other_version(client)
    listed = answer.json()
    if as_json:
        click.echo(json.dumps(listed))
        return
    rows = [_HEAD, *map(_row, listed["tokens"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo(printable("  ".join(cells).rstrip()))


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(config: Config, *, name: str) -> None:
    r"""Revoke the token NAME: whoever has it is refused from now on, on open connections too.

    \b
    Example:
      appliance token revoke till
    """
    with Client.of(config) as client:
        answer = client.request("DELETE", f"{_PATH}/{quote(name, safe='')}")
    if answer.status == 404:
        raise InputError(f"there is no token {name!r}; appliance token list")
    click.echo(f"{name}: revoked", err=True)


def _row(made: dict[str, Any]) -> tuple[str, ...]:
    return (
        made["name"],
        ",".join(made["rights"]),
        ",".join(made["topics"]),
        made["rate"] or "-",
        made["expires_at"] or "never",
        made["last_used_at"] or "never",
    )


def _end(expires_at: str | None) -> str:
    return f"until {expires_at}" if expires_at else "until it is revoked"


def _other_version(client: Client) -> ApplianceError:
    return ApplianceError(f"{client.url} knows no tokens: it is another version")
