"""`appliance schema`: JSON Schemas of topics, over the API."""

import json
from pathlib import Path
from typing import Any, Final

import click

from appliance.cli import options
from appliance.cli.text.words import counted
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError, InputError

#: Seconds to try again while the appliance is busy.
_PATIENCE: Final = 10.0

_TOPIC: Final = click.argument("topic", callback=options.topic)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=options.Group)
def schema() -> None:
    r"""Say what a topic's messages must look like, by a JSON Schema.

    Observe first: messages that the schema does not allow are stored, counted and marked in their
    `meta`. Then quarantine makes dead letters of them, and reject refuses them.

    \b
    Examples:
      appliance schema test orders --file orders.schema.json
      appliance schema set orders --file orders.schema.json
      appliance schema set orders --file orders.schema.json --mode quarantine
      appliance schema show orders
      appliance schema remove orders
    """


@schema.command("set")
@_TOPIC
@click.option("--file", "path", type=_FILE, required=True, help="The JSON Schema.")
@click.option(
    "--mode",
    type=click.Choice(["observe", "quarantine", "reject"]),
    default="observe",
    show_default=True,
    help="What is done with a message that it does not allow.",
)
@options.AS_JSON
@click.pass_obj
def set_schema(config: Config, *, topic: str, path: Path, mode: str, as_json: bool) -> None:
    r"""Give a topic a schema, or another one; it is in force within a second.

    \b
    Examples:
      appliance schema set orders --file orders.schema.json
      appliance schema set orders --file orders.schema.json --mode reject
    """
    answer = _ask(config, "PUT", f"{topic}/schema?mode={mode}", _content(path))
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(
            f"{topic}: {mode}; bodies of up to {answer['max_body_bytes']:,} bytes are checked",
            err=True,
        )


@schema.command()
@_TOPIC
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, topic: str, as_json: bool) -> None:
    r"""Print a topic's schema, and how many messages it did not allow.

    \b
    Examples:
      appliance schema show orders > orders.schema.json
      appliance schema show orders --json
    """
    answer = _ask(config, "GET", f"{topic}/schema")
    if as_json:
        click.echo(json.dumps(answer))
        return
    click.echo(json.dumps(answer["schema"], indent=2))
    click.echo(
        f"{answer['mode']} since {answer['changed_at']}; {answer['invalid']:,} of "
        f"{counted(answer['checked'], 'message')} were invalid since the API started",
        err=True,
    )


@schema.command()
@_TOPIC
@click.pass_obj
def remove(config: Config, *, topic: str) -> None:
    r"""Let a topic take any message again.

    \b
    Examples:
      appliance schema remove orders
    """
    _ask(config, "DELETE", f"{topic}/schema")


@schema.command("test")
@_TOPIC
@click.option("--file", "path", type=_FILE, help="A JSON Schema; without it the topic's own.")
@click.option(
    "--last",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Try it on so many stored messages, the newest.",
)
@options.AS_JSON
@click.pass_obj
def test_schema(config: Config, *, topic: str, path: Path | None, last: int, as_json: bool) -> None:
    r"""Try a schema on the messages that a topic has; nothing is changed.

    Exit status: 0 all are valid, 1 some are not.

    \b
    Examples:
      appliance schema test orders --file orders.schema.json
      appliance schema test orders --last 100000
    """
    body = _content(path) if path else b""
    answer = _ask(config, "POST", f"{topic}/schema/test?last={last}", body)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        for each in answer["errors"]:
            click.echo(f"{each['id']}  {each['error']}")
        stopped = ", as many as could be tried in time" if answer["stopped"] else ""
        click.echo(
            f"{answer['invalid']:,} of {counted(answer['checked'], 'message')}{stopped} are not "
            "valid",
            err=True,
        )
    if answer["invalid"]:
        raise click.exceptions.Exit(1)


def _ask(config: Config, method: str, path: str, body: bytes | None = None) -> Any:
    headers = {"Content-Type": "application/schema+json"} if body else None
    with Client.of(config) as client:
        answer = client.request(method, f"/v1/topics/{path}", body, headers, patience=_PATIENCE)
    if answer.status >= 400:
        raise InputError(answer.detail)
    return answer.json() if answer.body else None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ApplianceError(f"{path}: {error.strerror}") from error
