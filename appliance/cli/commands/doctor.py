"""The command `doctor`."""

import json
import sys
from dataclasses import asdict
from typing import Final

import click

from appliance.cli import options
from appliance.cli.text.words import coloured
from appliance.config import Config
from appliance.doctor.checks import examine
from appliance.doctor.diagnosis import Diagnosis, Level
from appliance.store import open_store

_COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@click.command()
@options.AS_JSON
@click.pass_obj
def doctor(config: Config, as_json: bool) -> None:
    r"""Check the machine, the disk and the data, with advice where something is wrong.

    It checks file system, owner and mode, free space, fsync, SQLite, the database, the broker's
    data, ports, clock and memory, while the appliance runs or when it is stopped. `run` and
    `migrate` make the quick checks by themselves. Exit status: 0 no error (warnings are possible),
    1 an error.

    \b
    Examples:
      appliance doctor
      docker exec inbox appliance doctor
      appliance doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    results = []
    for result in examine(config, open_store(config)):
        results.append(result)
        if not as_json:
            click.echo(_line(result))
    healthy = all(result.level is not Level.ERROR for result in results)
    if as_json:
        findings = [asdict(result) for result in results]
        click.echo(json.dumps({"ok": healthy, "findings": findings}, indent=2))
    if not healthy:
        sys.exit(1)


def _line(result: Diagnosis) -> str:
    level = coloured(f"{result.level:<8}", _COLOURS[result.level])
    line = f"{level} {result.check:<16} {result.found}"
    return f"{line}\n{'':<25} -> {result.advice}" if result.advice else line
