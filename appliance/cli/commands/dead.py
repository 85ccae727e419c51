"""`appliance dead`: list, show, redrive and discard dead letters, over the API."""

import json
import sys
from typing import Final
from urllib.parse import urlencode

import click

from appliance.cli import options
from appliance.cli.dead_client import PATIENCE, Work, address, walk
from appliance.cli.text.dead_text import hints, line, whole
from appliance.cli.text.words import counted
from appliance.client import Client
from appliance.config import Config
from appliance.errors import InputError


@click.group(cls=options.Group)
def dead() -> None:
    r"""List messages that could not be stored; send them again or discard them.

    A dead letter is a message that could not be stored, kept with the reason. Its name is its SEQ,
    the first column of the list, or its message's id if no other letter has the same id.

    \b
    Examples:
      appliance dead list
      appliance dead show 17
      appliance dead redrive 17 --to orders
      appliance dead redrive --reason broker-expired
      appliance dead discard --topic sensors --yes
    """


_REASON: Final = click.option("--reason", help="All with this reason.")
_TOPIC: Final = click.option("--topic", help="All of this topic.")
_ALL: Final = click.option("--all", "everything", is_flag=True, help="All that exist now.")
_YES: Final = click.option("--yes", is_flag=True, help="Don't ask for confirmation.")

#: The next step after letters were sent again.
_FOLLOW: Final = "a letter that fails again comes back: appliance dead list"


@dead.command("list")
@_REASON
@_TOPIC
@click.option(
    "-n", "--lines", "most", type=click.IntRange(1), default=20, show_default=True,
    help="List this many at most, the newest first.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="List every letter, however many.")
@options.AS_JSON
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
    r"""List dead letters, the newest first. With --json, one object a line, body included.

    \b
    Examples:
      appliance dead list
      appliance dead list --reason conflict -n 100
      appliance dead list --all --json > dead-letters.ndjson
    """
    choice = _choice(reason, topic)
    shown = count = 0
    reasons: set[str] = set()
    with Client.of(config) as client:
        for letter, count in walk(client, choice, None if everything else most):  # noqa: B007
            click.echo(json.dumps(letter) if as_json else line(letter, head=not shown))
            reasons.add(letter["reason"])
            shown += 1
    if not as_json:
        click.echo(f"{shown:,} of {counted(count, 'dead letter')}", err=True)
        for hint in hints(reasons):
            click.echo(hint, err=True)


@dead.command()
@click.argument("letter")
@click.option("--body", is_flag=True, help="Write the body only, every byte of it.")
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, letter: str, body: bool, as_json: bool) -> None:
    r"""Show one dead letter: the reason, the error and the body.

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
    click.echo(json.dumps(answer.json()) if as_json else whole(answer.json()))


@dead.command()
@click.argument("letters", nargs=-1)
@_REASON
@_TOPIC
@_ALL
@click.option(
    "--to", callback=options.topic, help="Send to this topic instead of the letter's own."
)
@click.option(
    "--force", is_flag=True, help="Send also what fails the check again that it failed before."
)
@_YES
@options.AS_JSON
@click.pass_obj
def redrive(
    config: Config,
    *,
    letters: tuple[str, ...],
    reason: str | None,
    topic: str | None,
    everything: bool,
    to: str | None,
    force: bool,
    yes: bool,
    as_json: bool,
) -> None:
    r"""Send dead letters again, oldest first: some by name, or all of a reason or topic.

    What was quarantined is checked again, with the secrets and schemas of now; --force sends it all
    the same. Safe to repeat: each letter is delivered exactly once. Letters that would fail again
    are listed and left in place. Exit status: 0 all were sent, 1 some were not, 2 wrong usage, 69
    not reachable, 77 token refused.

    \b
    Examples:
      appliance dead redrive 17 18
      appliance dead redrive 17 --to orders
      appliance dead redrive --reason broker-expired --topic orders
      appliance dead redrive --reason bad-signature
      appliance dead redrive --all --yes
    """
    wanted = {"topic": to, "force": "true" if force else None}
    query = urlencode({name: value for name, value in wanted.items() if value})
    query = f"?{query}" if query else ""
    work = Work(config, "redriven", as_json, words="sent again", next_step=_FOLLOW)
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
@options.AS_JSON
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
    r"""Delete dead letters for good: some by name, or all of a reason or topic.

    It asks before it discards by reason, topic or --all; without a terminal to confirm on, --yes is
    needed. Exit status: 0 all are deleted, 1 some did not exist, 2 wrong usage, 69 not reachable,
    77 token refused.

    \b
    Examples:
      appliance dead discard 17
      appliance dead discard --reason empty
      appliance dead discard --all --yes
    """

    def agree(what: str) -> bool:
        if not yes and not sys.stdin.isatty():
            raise click.UsageError(f"would discard {what}; give --yes")
        return yes or click.confirm(f"Discard {what}?", err=True)

    Work(config, "discarded", as_json).run(
        lambda client, name: client.request("DELETE", address(name), patience=PATIENCE).status,
        _selection(letters, reason, topic, everything),
        agree,
    )


def _choice(reason: str | None, topic: str | None) -> dict[str, str]:
    filters = {"reason": reason, "topic": topic}
    return {name: value for name, value in filters.items() if value is not None}


def _selection(
    letters: tuple[str, ...], reason: str | None, topic: str | None, everything: bool
) -> tuple[str, ...] | dict[str, str]:
    """Return the names of letters, or the filter that selects letters."""
    choice = _choice(reason, topic)
    if sum(map(bool, (letters, choice, everything))) != 1:
        raise click.UsageError("name letters, or give --reason and --topic, or --all")
    return letters or choice


def _refuse_missing(status: int, letter: str) -> None:
    if status == 404:
        raise InputError(f"there is no dead letter {letter}")
