"""`appliance dead`: list, show, redrive and discard dead letters, over the API."""

import base64
import json
import sys
from typing import Any, Final
from urllib.parse import urlencode

import click

from appliance.cli.dead_client import PATIENCE, Work, address, walk
from appliance.cli.text.status_text import size
from appliance.cli.text.terminal import printable
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError, TopicError
from appliance.model.topics import check_topic

#: Characters of a letter's error in a list, and of its body where it is shown.
_SHORT: Final = 60
_LONG: Final = 4000


@click.group()
def dead() -> None:
    r"""See what could not be stored, and send it again or discard it.

    A dead letter is a message that could not be stored, kept with the reason. It is named by its
    SEQ, the first column of the list; or by its message's id, where no other letter has it.

    \b
    Examples:
      appliance dead list
      appliance dead show 17
      appliance dead redrive 17 --to orders
      appliance dead redrive --reason broker-expired
      appliance dead discard --topic sensors --yes
    """


_REASON: Final = click.option("--reason", help="Those that died of this.")
_TOPIC: Final = click.option("--topic", help="Those of this topic.")
_ALL: Final = click.option("--all", "everything", is_flag=True, help="All there are now.")
_YES: Final = click.option("--yes", is_flag=True, help="Don't ask, even where they are many.")
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="JSON, for machines.")


@dead.command("list")
@_REASON
@_TOPIC
@click.option(
    "-n", "--lines", "most", type=click.IntRange(1), default=20, show_default=True,
    help="How many at most, the newest first.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Every one, however many.")
@_JSON
@click.pass_obj
def list_letters(
    config: Config,
    *,
    reason: str | None,
    topic: str | None,
    most: int,
    everything: bool,
    as_json: bool,
) -> None:
    r"""List dead letters, the newest first. With --json one object a line, body included.

    \b
    Examples:
      appliance dead list
      appliance dead list --reason conflict -n 100
      appliance dead list --all --json > dead-letters.ndjson
    """
    choice = _choice(reason, topic)
    shown = count = 0
    with Client.of(config) as client:
        for letter, count in walk(client, choice, None if everything else most):  # noqa: B007
            click.echo(json.dumps(letter) if as_json else _line(letter, head=not shown))
            shown += 1
    if not as_json:
        click.echo(f"{shown:,} of {count:,} dead letters", err=True)


@dead.command()
@click.argument("letter")
@click.option("--body", is_flag=True, help="Write nothing but its body, every byte of it.")
@_JSON
@click.pass_obj
def show(config: Config, *, letter: str, body: bool, as_json: bool) -> None:
    r"""Show one dead letter: why it died, and its body.

    \b
    Examples:
      appliance dead show 17
      appliance dead show 17 --body > letter.bin
    """
    with Client.of(config) as client:
        if body:
            answer = client.request("GET", f"{address(letter)}/body", patience=PATIENCE)
            _refuse_missing(answer.status, letter)
            sys.stdout.buffer.write(answer.body)
            return
        answer = client.request("GET", address(letter), patience=PATIENCE)
        _refuse_missing(answer.status, letter)
    click.echo(json.dumps(answer.json()) if as_json else _whole(answer.json()))


def _target(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else check_topic(value)
    except TopicError as error:
        raise click.BadParameter(str(error)) from error


@dead.command()
@click.argument("letters", nargs=-1)
@_REASON
@_TOPIC
@_ALL
@click.option("--to", callback=_target, help="Send to this topic instead of the letter's own.")
@_YES
@_JSON
@click.pass_obj
def redrive(
    config: Config,
    *,
    letters: tuple[str, ...],
    reason: str | None,
    topic: str | None,
    everything: bool,
    to: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    r"""Send dead letters again, oldest first: some by name, or all of a reason or topic.

    Each becomes one message, however often this is repeated and whatever is killed meanwhile. One
    that would only die again is named, and stays. Exit status: 0 all were sent, 1 some were not, 2
    wrong usage, 69 not reachable.

    \b
    Examples:
      appliance dead redrive 17 18
      appliance dead redrive 17 --to orders
      appliance dead redrive --reason broker-expired --topic orders
      appliance dead redrive --all --yes
    """
    query = f"?{urlencode({'topic': to})}" if to else ""
    work = Work(config, "redriven", as_json)
    work.run(
        lambda client, name: (
            client.request("POST", f"{address(name)}/redrive{query}", patience=PATIENCE).status
        ),
        _selection(letters, reason, topic, everything),
        lambda what: yes or not sys.stdin.isatty() or click.confirm(f"Redrive {what}?", err=True),
    )


@dead.command()
@click.argument("letters", nargs=-1)
@_REASON
@_TOPIC
@_ALL
@_YES
@_JSON
@click.pass_obj
def discard(
    config: Config,
    *,
    letters: tuple[str, ...],
    reason: str | None,
    topic: str | None,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    r"""Remove dead letters for good: some by name, or all of a reason or topic.

    Asks before it discards by reason, topic or --all; where there is no terminal to ask at, --yes
    is needed. Exit status: 0 all are gone, 1 some were not there, 2 wrong usage, 69 not reachable.

    \b
    Examples:
      appliance dead discard 17
      appliance dead discard --reason empty
      appliance dead discard --all --yes
    """

    def agree(what: str) -> bool:
        if not yes and not sys.stdin.isatty():
            raise click.UsageError(f"would discard {what}; say --yes")
        return yes or click.confirm(f"Discard {what}?", err=True)

    Work(config, "discarded", as_json).run(
        lambda client, name: client.request("DELETE", address(name), patience=PATIENCE).status,
        _selection(letters, reason, topic, everything),
        agree,
    )


def _choice(reason: str | None, topic: str | None) -> dict[str, str]:
    given = {"reason": reason, "topic": topic}
    return {name: value for name, value in given.items() if value is not None}


def _selection(
    letters: tuple[str, ...], reason: str | None, topic: str | None, everything: bool
) -> tuple[str, ...] | dict[str, str]:
    """Return the letters that were named, or the filter for all that are meant."""
    choice = _choice(reason, topic)
    if sum(map(bool, (letters, choice, everything))) != 1:
        raise click.UsageError("name letters, or give --reason and --topic, or --all")
    return letters or choice


def _refuse_missing(status: int, letter: str) -> None:
    if status == 404:
        raise InputError(f"there is no dead letter {letter}")


_HEAD: Final = f"{'SEQ':>8}  {'DIED AT':<24}  {'REASON':<22}  {'BYTES':>10}  TOPIC: ERROR"


def _line(letter: dict[str, Any], *, head: bool) -> str:
    error = letter["error"]
    error = error if len(error) <= _SHORT else error[: _SHORT - 3] + "..."
    line = (
        f"{letter['seq']:>8}  {letter['dead_at']:<24}  {letter['reason']:<22}  "
        f"{letter['bytes']:>10,}  {printable(letter['topic'])}: {printable(error)}"
    )
    return f"{_HEAD}\n{line}" if head else line


def _whole(letter: dict[str, Any]) -> str:
    lines = [
        f"{name:<11}  {printable(str(letter[name]))}"
        for name in ("seq", "id", "topic", "received_at", "dead_at", "reason", "error")
    ]
    lines.append(f"{'size':<11}  {size(letter['bytes'])}")
    body, encoding = letter["body"], letter["encoding"]
    if encoding == "base64":
        body = repr(base64.b64decode(body[:_LONG]))[2:-1]
    elif body is not None:
        body = printable(body[:_LONG])
    if body is None or letter["bytes"] > _LONG:
        lines.append("too long to be shown whole: --body writes every byte")
    return "\n".join([*lines, "", body or ""])
