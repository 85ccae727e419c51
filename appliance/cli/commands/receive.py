"""`appliance receive`: pull messages of a subscription, print them, and acknowledge them."""

import json
import sys
from typing import Any, Final
from urllib.parse import quote

import click

from appliance.client import Client
from appliance.config import Config
from appliance.errors import ClientError, InputError

#: Seconds that one request waits for messages: as long as it can be, and with `--once`.
_WAIT_SECONDS: Final = 30
_ONCE_SECONDS: Final = 2
#: Seconds for which the API can be away: an update, a restart of the machine.
_PATIENCE_SECONDS: Final = 300.0


@click.command()
@click.argument("name")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Messages that are received, printed and acknowledged together.",
)
@click.option("--lease", type=click.IntRange(1, 43_200), help="Seconds of each lease.")
@click.option("--once", is_flag=True, help="End when there is nothing more to receive.")
@click.option(
    "--keep",
    is_flag=True,
    help="Acknowledge nothing: somebody else does, with the ids that are printed.",
)
@click.pass_obj
def receive(
    config: Config, *, name: str, limit: int, lease: int | None, once: bool, keep: bool
) -> None:
    r"""Print the messages of the subscription NAME, one JSON object a line, until Ctrl-C.

    Messages are acknowledged once they are written to standard output: into a file, or to a program
    that is then the one that has them. Whatever happens before, none is left out; one that was
    printed can be printed again, with the same id.

    \b
    Examples:
      appliance receive invoices
      appliance receive invoices --once --limit 1000 >> invoices.ndjson
      appliance receive invoices --keep --once --limit 1 | jq -r .lease
    """
    path = f"/v1/subscriptions/{quote(name, safe='')}"
    query = f"wait={_ONCE_SECONDS if once else _WAIT_SECONDS}&limit={limit}"
    if lease is not None:
        query += f"&lease={lease}"
    with Client.of(config) as client:
        try:
            while True:
                messages = _receive(client, f"{path}/receive?{query}", name)
                if messages:
                    _print(messages)
                    if not keep:
                        _acknowledge(client, path, messages)
                elif once:
                    return
        except KeyboardInterrupt:
            return


def _receive(client: Client, path: str, name: str) -> list[dict[str, Any]]:
    answer = client.request("POST", path, b"", patience=_PATIENCE_SECONDS)
    if answer.status == 404:
        raise InputError(f"there is no subscription {name!r}; appliance subscription list")
    found: list[dict[str, Any]] = answer.json()["messages"]
    return found


def _print(messages: list[dict[str, Any]]) -> None:
    """Write the lines; where nobody reads them any more, the command ends without a word of it."""
    for message in messages:
        click.echo(json.dumps(message))
    sys.stdout.flush()


def _acknowledge(client: Client, path: str, messages: list[dict[str, Any]]) -> None:
    body = json.dumps({"leases": [message["lease"] for message in messages]}).encode()
    headers = {"Content-Type": "application/json"}
    answer = client.request("POST", f"{path}/ack", body, headers, patience=_PATIENCE_SECONDS)
    if answer.status != 200:
        raise ClientError(f"{client.url}: {answer.detail}; the messages will be received again")
