"""The options of `appliance endpoint` that describe an endpoint, each defined once."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from appliance.cli.inbox_options import read_secret
from appliance.model import endpoint_settings

#: Option -> (help, type): the options that are settings.
_SETTINGS: Final[dict[str, tuple[str, Any]]] = {
    "concurrency": (
        "Requests at once (10).",
        click.IntRange(1, endpoint_settings.MAX_CONCURRENCY),
    ),
    "rate": ("Requests in a time, such as 100/s (any number).", str),
    "timeout": (
        "Seconds for one request (15).",
        click.IntRange(1, endpoint_settings.MAX_TIMEOUT),
    ),
    "lifetime": ("From the first attempt until a message is given up, such as 12h (3d).", str),
}


def telling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say what an endpoint gets, and how."""
    options = [
        click.option(
            "--topic", "topics", multiple=True, metavar="PATTERN",
            help="A topic that it gets, or a pattern such as 'orders.*' (every topic).",
        ),
        click.option(
            "--where", multiple=True,
            help="A condition on the JSON body, such as 'total>=100'; all of several must hold.",
        ),
        click.option(
            "--ordered/--unordered", default=None,
            help="Keep the order of each topic: one that failed holds up those after it.",
        ),
        *(
            click.option(f"--{name}", type=kind, help=words)
            for name, (words, kind) in _SETTINGS.items()
        ),
        click.option(
            "--pass-header", "passed", multiple=True, metavar="NAME",
            help="A header with which messages came that goes on with them.",
        ),
        click.option(
            "--header-file", "header_files", multiple=True, metavar="NAME=FILE",
            help="A header of each request, such as Authorization; its value is in a file.",
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def told_by(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what these options say, as the API takes it; options that were not given are left out.

    Reads the files with the values of headers.
    """
    settings = {name: options[name] for name in _SETTINGS if options[name] is not None}
    if options["ordered"] is not None:
        settings["ordered"] = options["ordered"]
    if options["passed"]:
        settings["headers"] = list(options["passed"])
    wish: dict[str, Any] = {
        "topics": list(options["topics"]),
        "where": list(options["where"]),
        "settings": settings,
        "own_headers": dict(map(_own_header, options["header_files"])),
    }
    return {name: value for name, value in wish.items() if value}


def _own_header(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise click.BadParameter("expected NAME=FILE", param_hint="--header-file")
    return name, read_secret(path, "--header-file")


SECRET_FILE: Final = click.option(
    "--secret-file",
    metavar="FILE",
    help="A file with a secret of your own: whsec_ and base64. - is standard input.",
)
EVERY: Final = click.option("--all", "everything", is_flag=True, help="All that were given up.")
MOST: Final = click.option(
    "-n", "--lines", "most", type=click.IntRange(1, 100_000), default=20, show_default=True,
    help="List this many at most, the newest first.",
)  # fmt: skip
EACH_AS_JSON: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, and nothing else."
)
