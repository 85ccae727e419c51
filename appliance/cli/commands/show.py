"""The command `show`."""

import json
import sys
from typing import Final
from urllib.parse import quote

import click

from appliance.cli import options
from appliance.cli.text.message_text import whole_message
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError

#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--body", is_flag=True, help="Write the body only, every byte as it came.")
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, message_id: str, body: bool, as_json: bool) -> None:
    r"""Show the message ID: its topic, its time, how it came, and its body.

    JSON is laid out; its numbers, its keys and their order stay as they came. A message that became
    a dead letter is shown too. Exit status 1: no message with this ID is stored.

    \b
    Examples:
      appliance show 01890a5d-ac96-774b-bcce-b302099a8057
      appliance show 01890a5d-ac96-774b-bcce-b302099a8057 --body > body.bin
    """
    path = f"/v1/messages/{quote(message_id, safe='', errors='surrogateescape')}"
    with Client.of(config) as client:
        answer = client.request("GET", f"{path}/body" if body else path, patience=_PATIENCE)
    if answer.status == 404:
        raise InputError(answer.detail)
    if body:
        sys.stdout.buffer.write(answer.body)
        return
    message = answer.json()
    click.echo(json.dumps(message) if as_json else whole_message(message))
