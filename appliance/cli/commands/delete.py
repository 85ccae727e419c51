"""The command `delete`."""

import json
import sys
import time
from typing import Any, Final
from urllib.parse import quote

import click

from appliance.cli import filter_options, options
from appliance.cli.text.words import counted, size
from appliance.client import Answer, Client
from appliance.config import Config
from appliance.errors import InputError

#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0
#: Seconds between two looks how far it has come: the first, and the most.
_LOOK_FIRST: Final = 0.02
_LOOK_LAST: Final = 1.0


@click.command()
@click.argument("message_ids", metavar="[ID]...", nargs=-1)
@click.option("--topic", callback=options.topic, help="The messages of this topic.")
@filter_options.chosen
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option("--no-wait", is_flag=True, help="Don't wait until they are gone.")
@options.AS_JSON
@click.pass_obj
def delete(
    config: Config,
    *,
    message_ids: tuple[str, ...],
    topic: str | None,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    kind: str | None,
    yes: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    r"""Delete messages for good: some by ID, or those of a topic.

    With --topic it says how many messages there are, and asks; without a terminal to confirm on,
    --yes is needed. Messages that were sent before are deleted even if they are not stored yet;
    what is sent later stays. The worker deletes beside storing, and goes on if it is interrupted,
    so Ctrl-C ends only the waiting. A topic that is deleted whole is gone from the list.

    \b
    Examples:
      appliance delete 01890a5d-ac96-774b-bcce-b302099a8057
      appliance delete --topic test
      appliance delete --topic readings --until 90d --yes
      appliance delete --topic orders --where 'customer.id=42'
    """
    filtered = {"since": since, "until": until, "where": where, "kind": kind}
    if bool(message_ids) == (topic is not None):
        raise click.UsageError("name messages by their IDs, or give --topic")
    if message_ids and any(filtered.values()):
        raise click.UsageError("--since, --until, --where and --kind need --topic")
    with Client.of(config) as client:
        if topic is None:
            asked = [_ask(client, f"/v1/messages/{_quoted(name)}") for name in message_ids]
        else:
            path = f"/v1/topics/{topic}/messages?{filter_options.query_of(**filtered)}"
            if not yes:
                _confirm(client, path, topic)
            asked = [_ask(client, path.removesuffix("?"))]
        if not no_wait:
            asked = [_wait(client, each) for each in asked]
    _report(asked, as_json=as_json)


def _confirm(client: Client, path: str, topic: str) -> None:
    answer = client.request("DELETE", f"{path}&dry-run=true", patience=_PATIENCE)
    count = _found(answer).json()
    least = "" if count["complete"] else "at least "
    what = f"{least}{counted(count['messages'], 'message')} of {topic}"
    if not sys.stdin.isatty():
        raise click.UsageError(f"would delete {what}; give --yes")
    click.confirm(f"Delete {what}?", abort=True, err=True)


def _ask(client: Client, path: str) -> dict[str, Any]:
    asked: dict[str, Any] = _found(client.request("DELETE", path, patience=_PATIENCE)).json()
    return asked


def _found(answer: Answer) -> Answer:
    if answer.status == 404:
        raise InputError(answer.detail)
    return answer


def _wait(client: Client, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the deletion once it is done; show on a terminal how far it is."""
    pause, shown = _LOOK_FIRST, sys.stderr.isatty()
    path = f"/v1/deletions/{asked['id']}"
    while asked["status"] != "done":
        time.sleep(pause)
        pause = min(2 * pause, _LOOK_LAST)
        asked = _found(client.request("GET", path, patience=_PATIENCE)).json()
        if shown:
            words = (
                "waiting for the messages before it"
                if asked["status"] == "queued"
                else f"{counted(asked['messages'], 'message')} deleted"
            )
            click.echo(f"\r\x1b[K{words}\r", nl=False, err=True)
    if shown:
        click.echo("\r\x1b[K", nl=False, err=True)
    return asked


def _report(asked: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"deletions": asked}))
        return
    gone = sum(each["messages"] for each in asked)
    if all(each["status"] == "done" for each in asked):
        length = size(sum(each["bytes"] for each in asked))
        click.echo(f"{counted(gone, 'message')} deleted ({length})", err=True)
    else:
        click.echo("the deletion is under way, and goes on by itself", err=True)
    if kept := sum(each["kept"] for each in asked):
        click.echo(
            f"{counted(kept, 'message')} could not be deleted: a trigger of the database refuses "
            "it; the worker's log says more",
            err=True,
        )


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="surrogateescape")
