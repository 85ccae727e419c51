"""Options that choose messages, for every command that reads or deletes many of them."""

from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import click

from appliance.store.filters import KINDS

_F = TypeVar("_F", bound=Callable[..., Any])

_SINCE: Final = click.option(
    "--since", help="Received at this time or later: 10m, 2h, 1d or an ISO 8601 time."
)
_UNTIL: Final = click.option("--until", help="Received before this time, written as in --since.")
_WHERE: Final = click.option(
    "--where", multiple=True,
    help="A condition on the JSON body, such as 'customer.id=42' or 'temp>=30'; @ before it asks "
    "the meta. All of several must hold.",
)  # fmt: skip
_KIND: Final = click.option(
    "--kind", type=click.Choice(KINDS), help="Only bodies that are JSON, other text, or bytes."
)


def chosen(command: _F) -> _F:
    """Give a command the options --since, --until, --where and --kind."""
    for option in (_KIND, _WHERE, _UNTIL, _SINCE):
        command = option(command)
    return command


def query_of(**parameters: Any) -> str:
    """Return parameters as an address has them after its `?`; None and an empty tuple are none."""
    values = {
        name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
        for name, value in parameters.items()
        if value is not None and value != ()
    }
    return urlencode(values, doseq=True, errors="surrogateescape")
