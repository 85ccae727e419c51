"""The command `status`."""

import json
import sys

import click

from appliance.cli import options
from appliance.cli.text.status_text import status_lines
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError


@click.command()
@options.AS_JSON
@click.pass_obj
def status(config: Config, as_json: bool) -> None:
    r"""Show processes, broker, queue, store and disk.

    Exit status: 0 ready, 1 not ready (the reasons are shown), 69 not reachable, 77 token refused.

    \b
    Examples:
      appliance status
      appliance status --json | jq .broker.depth
    """
    with Client.of(config) as client:
        answer = client.request("GET", "/v1/status")
        if answer.status == 404:
            raise ApplianceError(f"{client.url} is not the appliance's API")
        state = answer.json()
    if as_json:
        click.echo(json.dumps(state, indent=2))
    else:
        click.echo("\n".join(status_lines(state, client.url)))
    if not state["ready"]:
        sys.exit(1)
