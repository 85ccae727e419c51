"""The command `config`."""

import json

import click

from appliance.cli import options
from appliance.config import Config
from appliance.config.shown import ShownSetting, shown


@click.command("config")
@options.AS_JSON
@click.pass_obj
def config(config: Config, as_json: bool) -> None:
    r"""Show every setting in force, as it was written, and its source. Secrets are masked.

    With --json, `value` is the value in force (sizes in bytes, times in seconds) and `text` is the
    text as it was written.

    \b
    Examples:
      appliance config
      appliance config --json
    """
    settings = shown(config)
    if as_json:
        members = {s.name: {"value": s.value, "text": s.text, "source": s.source} for s in settings}
        click.echo(json.dumps(members, indent=2))
        return
    rows = [(s.name, s.shown, _source(s)) for s in settings]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")


def _source(setting: ShownSetting) -> str:
    default = f" (default {setting.default})" if setting.default else ""
    return setting.source if setting.source == "default" else setting.source + default
