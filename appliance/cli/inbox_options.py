"""The options of `appliance inbox` that become an inbox's settings, each defined once."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from appliance.auth import inbox_settings
from appliance.auth.signatures.kinds import KINDS
from appliance.auth.signatures.macs import HASHES, Encoding
from appliance.errors import InputError

_ENCODINGS: Final = click.Choice([each.value for each in Encoding])

#: Option -> (help, type or choice, whether it can be given several times).
_OPTIONS: Final[dict[str, tuple[str, Any, bool]]] = {
    "header": ("For hmac: the header that has the signature.", str, False),
    "prefix": ("For hmac: what stands before it, such as sha256=.", str, False),
    "encoding": ("For hmac: how it is written (hex).", _ENCODINGS, False),
    "hash": ("For hmac: the hash (sha256).", click.Choice(HASHES), False),
    "template": ("For hmac: what is signed ({body}); can have {timestamp} and {url}.", str, False),
    "timestamp-header": ("For hmac: the header that has the time.", str, False),
    "secret-encoding": (
        "For hmac: how the secret is written (as text).",
        _ENCODINGS,
        False,
    ),
    "tolerance": ("Seconds that a signed time can differ (300).", int, False),
    "public-url": ("The address before /in/, where the sender signs it.", str, False),
    "on-invalid": (
        "What becomes of a wrong signature (reject).",
        click.Choice(inbox_settings.ON_INVALID),
        False,
    ),
    "key-header": ("The header with the sender's id of an event.", str, False),
    "key-path": ("Where the body has it, such as $.id.", str, False),
    "keep": ("A header to keep beside each message.", str, True),
    "redirect": ("Where the browser goes then (form).", str, False),
    "challenge": (
        "The sender's check of the address with a POST.",
        click.Choice(inbox_settings.CHALLENGES),
        False,
    ),
    "rate": ("How many requests it takes, such as 100/m (any number).", str, False),
    "origins": (
        "A page that may post by script, such as https://example.com; * for all.",
        str,
        True,
    ),
}
#: Settings whose option has a word of its own.
_WORDS: Final = {"origins": "origin"}


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets them as one argument each."""
    for name, (words, kind, several) in reversed(_OPTIONS.items()):
        option = f"--{_WORDS.get(name, name)}"
        target = name.replace("-", "_")
        command = click.option(option, target, type=kind, multiple=several, help=words)(command)
    for name, kind, words in (
        ("body", str, "What is answered."),
        ("type", str, "Its media type (text/plain)."),
        ("status", int, "The status of the answer, such as 204."),
    ):
        command = click.option(f"--answer-{name}", type=kind, help=words)(command)
    return click.option(
        "--allow-get/--no-get",
        default=None,
        help="Take the query of a GET as a message (open, form).",
    )(command)


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, as the API takes them."""
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value not in (None, ()) and not name.startswith("answer_")
    }
    answer = {
        "status": options["answer_status"],
        "content_type": options["answer_type"],
        "body": options["answer_body"],
    }
    given = {name: value for name, value in answer.items() if value is not None}
    if given:
        settings["answer"] = given
    return settings


def read_secret(path: str, option: str = "--secret-file") -> str:
    """Return the secret in a file, `-` for standard input, without the line break at its end."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError("the secret is no UTF-8 text") from error


#: The option for a file with the secret that a sender signs with.
SECRET_FILE: Final = click.option(
    "--secret-file",
    "secret_files",
    multiple=True,
    metavar="FILE",
    help="A file with the secret that the sender signs with; - is standard input.",
)
KIND: Final = click.option(
    "--kind", type=click.Choice(list(KINDS)), help="Who sends; `appliance inbox kinds` lists them."
)
