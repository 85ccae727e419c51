"""Commands that show settings: `token` and `config`."""

import json

import click

from appliance import config as configuration
from appliance import credentials
from appliance.config import Config


@click.command()
@click.pass_obj
def token(config: Config) -> None:
    r"""Print the administrator's token; it is made now if there is none yet.

    \b
    Example:
      curl -H "Authorization: Bearer $(appliance token)" http://127.0.0.1:8080/v1/topics
    """
    click.echo(credentials.token(config))


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
@click.pass_obj
def config(config: Config, as_json: bool) -> None:
    r"""Show every setting in force and where it came from. Secrets are masked.

    \b
    Examples:
      appliance config
      appliance config --json
    """
    rows = []
    for setting in configuration.settings():
        value = getattr(config, setting.attribute)
        shown = "" if value is None else str(value)
        if setting.secret and shown:
            shown = "********"
        rows.append((setting.name, shown, config.sources[setting.name]))
    if as_json:
        click.echo(json.dumps({n: {"value": v, "source": s} for n, v, s in rows}, indent=2))
        return
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
