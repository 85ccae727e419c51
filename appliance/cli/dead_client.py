"""Dead letters over the API: walking through them, sending a request for each of many."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from appliance.cli.text.words import counted
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError, ClientError, InputError

_PATH: Final = "/v1/dead-letters"
#: Letters of one answer, at most; it has 8 MiB of bodies at most, too.
_PAGE: Final = 200
#: Letters that are named where they could not be sent or did not exist; --json names all.
_MOST_NAMED: Final = 20
#: Seconds of retrying while the appliance is unreachable or busy.
PATIENCE: Final = 30.0


@dataclass
class Work:
    """Sends a request for each of some letters, shows the progress, and reports."""

    config: Config
    #: the key of the count in the JSON report
    key: str
    as_json: bool
    #: the words for people after the count; by default the key
    words: str = ""
    #: the line for people after the report
    next_step: str = ""
    done: int = 0
    #: letters that were listed and had gone when their turn came
    gone: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    _listed: bool = False

    def run(
        self,
        act: Callable[[Client, str], int],
        selection: Sequence[str] | dict[str, str],
        agree: Callable[[str], bool],
    ) -> None:
        """Send them all; end the program with 1 where some were refused or did not exist."""
        with Client.of(self.config) as client:
            if isinstance(selection, dict):
                newest, count = _newest(client, selection)
                filters = "".join(f", {name} {value}" for name, value in selection.items())
                if count and not agree(counted(count, "dead letter") + filters):
                    raise click.Abort
                names, length = _names(client, selection, newest), count
                self._listed = True
            else:
                names, length = iter(selection), len(selection)
            self._all(client, act, names, length)
        self._report()

    def _all(
        self, client: Client, act: Callable[[Client, str], int], names: Iterator[str], length: int
    ) -> None:
        if length > 1 and sys.stderr.isatty():
            with click.progressbar(names, length=length, file=sys.stderr, show_pos=True) as bar:
                for name in bar:
                    self._one(client, act, name)
        else:
            for name in names:
                self._one(client, act, name)

    def _one(self, client: Client, act: Callable[[Client, str], int], name: str) -> None:
        try:
            status = act(client, name)
        except InputError as error:
            self.refused.append({"letter": name, "detail": str(error)})
        except ClientError as error:
            raise ClientError(f"{error}; before that: {self.done:,} {self._words}") from error
        else:
            if status == 404 and self._listed:
                self.gone += 1  # it existed: an answer got lost, or another command does the same
            elif status == 404:
                self.refused.append({"letter": name, "detail": "there is no such dead letter"})
            else:
                self.done += 1

    @property
    def _words(self) -> str:
        return self.words or self.key

    def _report(self) -> None:
        if self.as_json:
            click.echo(
                json.dumps({self.key: self.done, "gone": self.gone, "refused": self.refused})
            )
        else:
            verb = "was" if self.gone == 1 else "were"
            gone = f"; {self.gone:,} {verb} gone already" if self.gone else ""
            click.echo(f"{self.done:,} {self._words}{gone}", err=True)
            if self.done and self.next_step:
                click.echo(self.next_step, err=True)
            for each in self.refused[:_MOST_NAMED]:
                click.echo(f"{each['letter']}: {each['detail']}", err=True)
            if len(self.refused) > _MOST_NAMED:
                click.echo(f"and {len(self.refused) - _MOST_NAMED:,} more, see --json", err=True)
        if self.refused:
            sys.exit(1)


def address(letter: str) -> str:
    """Return the path of the letter that has this name."""
    return f"{_PATH}/{quote(letter, safe='', errors='surrogateescape')}"


def _get_page(client: Client, parameters: dict[str, Any]) -> Any:
    query = urlencode(parameters, errors="surrogateescape")
    answer = client.request("GET", f"{_PATH}?{query}", patience=PATIENCE)
    if answer.status == 404:
        raise ApplianceError(f"{client.url} knows no dead letters: it is another version")
    return answer.json()


def walk(
    client: Client, choice: dict[str, str], most: int | None
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each letter, newest first, with the number of all."""
    parameters: dict[str, Any] = {**choice}
    left = most
    while left is None or left > 0:
        page = _get_page(
            client, {**parameters, "limit": _PAGE if left is None else min(left, _PAGE)}
        )
        for letter in page["dead_letters"]:
            yield letter, page["count"]
        if page["next"] is None:
            return
        parameters["before"] = page["next"]
        left = None if left is None else left - len(page["dead_letters"])


def _newest(client: Client, choice: dict[str, str]) -> tuple[int, int]:
    """Return the newest letter's `seq` and the number of letters; later ones are left out."""
    page = _get_page(client, {**choice, "limit": 1})
    return (page["dead_letters"][0]["seq"] if page["dead_letters"] else 0), page["count"]


def _names(client: Client, choice: dict[str, str], newest: int) -> Iterator[str]:
    """Yield the name of each letter up to `newest`, oldest first."""
    cursor: str | None = "0"
    while cursor is not None:
        page = _get_page(client, {**choice, "after": cursor, "limit": _PAGE})
        for letter in page["dead_letters"]:
            if letter["seq"] > newest:
                return
            yield str(letter["seq"])
        cursor = page["next"]
