"""The command `search`."""

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from appliance.cli import filter_options, options
from appliance.cli.text.message_text import message_line
from appliance.cli.text.words import counted
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError

#: Messages of one answer, at most.
_PAGE: Final = 100
#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0


@click.command()
@click.argument("words", nargs=-1)
@click.option("--topic", callback=options.topic, help="Only messages of this topic.")
@filter_options.chosen
@click.option(
    "-n", "--lines", "most", type=click.IntRange(1), default=20, show_default=True,
    help="Show this many at most, the newest first.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show every message that is found.")
@options.AS_JSON
@click.pass_obj
def search(
    config: Config,
    *,
    words: tuple[str, ...],
    topic: str | None,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    kind: str | None,
    most: int,
    everything: bool,
    as_json: bool,
) -> None:
    r"""Find messages that have all these WORDS in their bodies, the newest first.

    Words that stand together in quotes are found together; a word with * at its end is the
    beginning of one. Without WORDS, the options alone choose. With --json, one object a line. Exit
    status: 0 found some, 1 found none or an error.

    \b
    Examples:
      appliance search timeout
      appliance search 'disk full' --since 1d --topic logs
      appliance search --where 'customer.id=42' --where 'total>100' --all --json
    """
    query = {
        "q": " ".join(words) or None, "topic": topic, "since": since, "until": until,
        "where": where, "kind": kind,
    }  # fmt: skip
    shown = 0
    with Client.of(config) as client:
        found = _Found(client, query, None if everything else most)
        for message in found:
            click.echo(json.dumps(message) if as_json else message_line(message))
            shown += 1
    if not as_json:
        rest = "; there may be more: -n or --all" if found.more else ""
        click.echo(f"{counted(shown, 'message')} found{rest}", err=True)
    if not shown:
        click.get_current_context().exit(1)


class _Found:
    """The messages that a search finds, `most` at most; then whether there may be `more`.

    The API ends a long search after a while, and says where it goes on.
    """

    def __init__(self, client: Client, query: dict[str, Any], most: int | None) -> None:
        self._client = client
        self._query = query
        self._left = most
        self.more = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        before: str | None = None
        while self._left is None or self._left > 0:
            page = self._page(before)
            if self._left is not None:
                self._left -= len(page["messages"])
            yield from page["messages"]
            before = page["next"]
            self.more = before is not None
            if not self.more:
                return

    def _page(self, before: str | None) -> Any:
        limit = _PAGE if self._left is None else min(self._left, _PAGE)
        query = filter_options.query_of(**self._query, before=before, limit=limit)
        answer = self._client.request("GET", f"/v1/messages?{query}", patience=_PATIENCE)
        if answer.status == 404:
            raise ApplianceError(f"{self._client.url} can't search: it is another version")
        return answer.json()
