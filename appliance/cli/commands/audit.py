"""The command `audit`."""

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from appliance.cli import options
from appliance.cli.text.words import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError

#: Entries of one answer, at most.
_PAGE: Final = 1000
#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0


@click.command()
@click.option(
    "-n", "--lines", "most", type=click.IntRange(1), default=20, show_default=True,
    help="List this many at most, the newest first.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="List every entry that is kept.")
@options.AS_JSON
@click.pass_obj
def audit(config: Config, *, most: int, everything: bool, as_json: bool) -> None:
    r"""List what administrators did, the newest first: when, who, from where, what, to what.

    With --json, one object a line.

    \b
    Examples:
      appliance audit
      appliance audit --all --json | jq -r 'select(.action == "token-create")'
    """
    with Client.of(config) as client:
        for entry in _entries(client, None if everything else most):
            click.echo(json.dumps(entry) if as_json else printable(_line(entry)))


def _entries(client: Client, most: int | None) -> Iterator[dict[str, Any]]:
    path, left = "/v1/audit", most
    while left is None or left > 0:
        limit = _PAGE if left is None else min(left, _PAGE)
        between = "&" if "?" in path else "?"
        answer = client.request("GET", f"{path}{between}limit={limit}", patience=_PATIENCE)
        if answer.status == 404:
            raise ApplianceError(f"{client.url} keeps no audit trail: it is another version")
        page = answer.json()
        yield from page["audit"]
        if page["next"] is None:
            return
        path = f"/v1/audit?before={page['next']}"
        left = None if left is None else left - len(page["audit"])


def _line(entry: dict[str, Any]) -> str:
    details = f" ({entry['details']})" if entry["details"] else ""
    return (
        f"{entry['at']}  {entry['who']}  {entry['address'] or '-'}  "
        f"{entry['action']}  {entry['target']}{details}"
    )
