"""The command `doctor`."""

import json
import sys
from dataclasses import asdict

import click

from appliance.config import Config
from appliance.doctor.checks import examine
from appliance.doctor.findings import Finding, Level
from appliance.store import open_store


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_obj
def doctor(config: Config, as_json: bool) -> None:
    r"""Check what the appliance stands on, and say what to do about what is wrong.

    File system, owner and mode, room, fsync, SQLite, the database, the broker's data, ports, clock,
    memory; beside a running appliance or a stopped one. `run` and `migrate` do the quick ones of
    these by themselves. Exit status: 0 no error (there may be warnings), 1 an error.

    \b
    Examples:
      appliance doctor
      docker exec inbox appliance doctor
      appliance doctor --json | jq '.findings[] | select(.level != "ok")'
    """
    findings = []
    for finding in examine(config, open_store(config)):
        findings.append(finding)
        if not as_json:
            click.echo(_line(finding))
    healthy = all(finding.level is not Level.ERROR for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": healthy, "findings": [asdict(f) for f in findings]}, indent=2))
    if not healthy:
        sys.exit(1)


def _line(finding: Finding) -> str:
    line = f"{finding.level:<8} {finding.check:<16} {finding.found}"
    return f"{line}\n{'':<25} -> {finding.advice}" if finding.advice else line
