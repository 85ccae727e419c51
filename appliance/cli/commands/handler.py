"""`appliance handler`: functions that get messages before they become rows."""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import click

from appliance.cli import options
from appliance.cli.handler_template import HANDLER, TEST
from appliance.client import Client
from appliance.config import Config
from appliance.errors import FolderError, HandlerError, InputError
from appliance.model import timestamps
from appliance.model.topics import check_topic
from appliance.model.wire import as_bytes

#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 10.0
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,49}", re.ASCII)
_FUNCTION: Final = re.compile(r"[\w.]+:\w+", re.ASCII)


@click.group(cls=options.Group)
def handler() -> None:
    r"""Make and try handlers: functions that get messages before they become rows.

    \b
    Examples:
      appliance handler new enrich
      appliance handler try enrich:handle order.json
      appliance handler list
    """


@handler.command("list")
@options.AS_JSON
@click.pass_obj
def list_handlers(config: Config, *, as_json: bool) -> None:
    r"""List the functions, their topics, and what waits for each.

    \b
    Examples:
      appliance handler list
      appliance handler list --json | jq -r '.handlers[] | select(.waiting > 0) | .function'
    """
    with Client.of(config) as client:
        found = client.request("GET", "/v1/handlers", patience=_PATIENCE).json()
    if as_json:
        click.echo(json.dumps(found))
        return
    for each in found["handlers"]:
        click.echo(_shown(each))
    if not found["handlers"]:
        click.echo("no topic has a handler (APPLIANCE_HANDLERS)")
    for trouble in found["trouble"]:
        click.echo(trouble)


@handler.command()
@click.argument("name")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files; without it, that of APPLIANCE_HANDLER_FOLDER.",
)  # fmt: skip
@click.pass_obj
def new(config: Config, *, name: str, folder: Path | None) -> None:
    r"""Write a handler to begin with, NAME.py, and a test of it, test_NAME.py.

    \b
    Examples:
      appliance handler new enrich
      appliance handler new enrich --folder .
    """
    if not _NAME.fullmatch(name) or name in sys.stdlib_module_names:
        raise InputError(
            "NAME: expected small letters, digits and underscores, and no module of Python's own"
        )
    home = folder or config.handlers_home
    files = {home / f"{name}.py": HANDLER, home / f"test_{name}.py": TEST}
    for path in files:
        if path.exists():
            raise InputError(f"{path} is there already; nothing was written")
    try:
        home.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text.format(name=name))
            click.echo(f"wrote {path}")
    except OSError as error:
        raise FolderError(f"{home}: can't be written to: {error.strerror}") from error
    click.echo(f"try it: echo '{{\"total\": 3}}' | appliance handler try {name}:handle")
    click.echo(f"use it: APPLIANCE_HANDLERS=TOPIC={name}:handle, and a restart")


@handler.command("try")
@click.argument("function")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--topic", default="test", show_default=True, help="The message's topic.")
@click.option("--content-type", help="The message's content type.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False),
    help="Folder with the module; without it, that of APPLIANCE_HANDLER_FOLDER.",
)  # fmt: skip
@options.AS_JSON
@click.pass_obj
def try_handler(
    config: Config, *, function: str, file: Any, topic: str, content_type: str | None,
    folder: Path | None, as_json: bool,
) -> None:  # fmt: skip
    r"""Give the function MODULE:NAME one message, a file's bytes, and print what it returns.

    It runs here, within the limits of the settings; nothing is stored. The exit status is 1 where
    the function fails.

    \b
    Examples:
      appliance handler try enrich:handle order.json --topic orders
      echo '[1, 2]' | appliance handler try appliance.split_handler:split
    """
    from dataclasses import replace

    from appliance.handle.runner_link import LoadError, RunnerLink

    if not _FUNCTION.fullmatch(function):
        raise InputError("FUNCTION: expected MODULE:NAME")
    if folder is not None:
        config = replace(config, handler_folder=folder.absolute())
    head: dict[str, Any] = {
        "topic": check_topic(topic), "id": "00000000-0000-7000-8000-000000000000",
        "received_at": timestamps.now(), "content_type": content_type, "meta": {}, "attempt": 1,
    }  # fmt: skip
    runner = RunnerLink(config, lambda: True)
    try:
        runner.load(function)
        answer = runner.handle(function, head, file.read())
    except LoadError as error:
        raise HandlerError(str(error)) from error
    finally:
        runner.kill()
    if answer.results is None:
        raise HandlerError(answer.error)
    for to, result in answer.results:
        _print(to, result, as_json=as_json)
    if not answer.results and not as_json:
        click.echo("no message: nothing would be stored", err=True)


def _print(topic: str, result: Any, *, as_json: bool) -> None:
    if as_json:
        text = result.body if isinstance(result.body, str) else None
        click.echo(
            json.dumps({"topic": topic, "content_type": result.content_type, "body": text,
                        "bytes": len(as_bytes(result.body))})
        )  # fmt: skip
        return
    click.echo(f"{topic}:", err=True)
    click.echo(as_bytes(result.body))


def _shown(each: dict[str, Any]) -> str:
    topics = ", ".join(each["topics"]) or "no topic any more"
    words = f"{each['waiting']:,} messages wait"
    if each["retrying"]:
        words += f", {each['retrying']:,} of them failed before"
    if each["oldest_at"]:
        words += f"; the oldest came at {each['oldest_at']}"
    done = f"{each['handled']:,} handled, {each['dropped']:,} dropped, "
    done += f"{each['failed']:,} failures, {each['dead']:,} dead"
    return f"{each['function']}  ({topics})\n  {words}\n  {done}"
