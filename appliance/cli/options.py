"""Arguments and options that several commands have, and groups that know misspelt commands."""

import difflib
import re
from collections.abc import Iterable
from typing import Final

import click

from appliance.errors import TopicError
from appliance.model.topics import check_topic

#: The option `--json` of commands that print one JSON object.
AS_JSON: Final = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object on standard output, and nothing else.",
)


def topic(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the topic that was given, checked; None where none was given."""
    try:
        return None if value is None else check_topic(value)
    except TopicError as error:
        near = re.sub(r"[^a-z0-9._-]+", "-", value.lower()).strip("-._")[:100] if value else ""
        hint = f"; try {near!r}" if near else ""
        raise click.BadParameter(f"{error}{hint}") from error


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean 'publish'?`, or an empty text where no word is near."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class Group(click.Group):
    """A group of commands that names the command next to a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begins with. Raises UsageError where there is none."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(f"no such command {name!r}{did_you_mean(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
