"""The command `config`."""

import json
from pathlib import Path
from typing import Final

import click

from appliance.cli import options
from appliance.config import Config, Setting, settings

#: Stands for a secret.
_MASK: Final = "********"


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
    if as_json:
        click.echo(json.dumps({s.name: _as_dict(config, s) for s in settings()}, indent=2))
        return
    rows = [(s.name, _shown(config, s), _source(config, s)) for s in settings()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        click.echo(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")


def _as_dict(config: Config, setting: Setting) -> dict[str, str]:
    value = getattr(config, setting.attribute)
    shown = "" if value is None else str(value)
    text = config.texts[setting.name]
    if setting.secret:
        shown, text = (_MASK if text else "" for text in (shown, text))
    return {"value": shown, "text": text, "source": config.sources[setting.name]}


def _shown(config: Config, setting: Setting) -> str:
    """Return a setting as it was written; a path as it is in force."""
    value, text = getattr(config, setting.attribute), config.texts[setting.name]
    if setting.secret and text:
        return _MASK
    return str(value) if isinstance(value, Path) else text


def _source(config: Config, setting: Setting) -> str:
    source = config.sources[setting.name]
    default = f" (default {setting.default})" if setting.default else ""
    return source if source == "default" else source + default
