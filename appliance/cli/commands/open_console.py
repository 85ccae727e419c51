"""The command `open`."""

import html
import json
import os
import sys
import tempfile
import webbrowser
from typing import Final

import click

from appliance.cli import options
from appliance.client import Client
from appliance.config import Config
from appliance.errors import ApplianceError

#: Seconds of retrying while the appliance is unreachable or busy.
_PATIENCE: Final = 30.0
_PAGE: Final = """<!DOCTYPE html><meta charset="utf-8"><title>Queue Appliance</title>
<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url={url}">
<a href="{url}">Open the console</a>
"""


@click.command("open")
@click.option("--browser", is_flag=True, help="Open it in this machine's browser, too.")
@options.AS_JSON
@click.pass_obj
def open_console(config: Config, *, browser: bool, as_json: bool) -> None:
    r"""Print a link that opens the console, signed in.

    The link works once, within a minute, and has the rights of the token that this command uses.

    \b
    Examples:
      appliance open
      appliance open --browser
    """
    with Client.of(config) as client:
        answer = client.request("POST", "/v1/login-links", patience=_PATIENCE)
        if answer.status == 404:
            raise ApplianceError(f"{client.url} has no console: it is another version")
        link = answer.json()
        public = config.public_url
        base = f"{public.scheme}://{public.host}" if public else client.url
        url = f"{base}{link['path']}"
    if browser:
        _show(url)
    if as_json:
        click.echo(json.dumps({"url": url, "seconds": link["seconds"]}))
        return
    click.echo(url)
    if sys.stderr.isatty():
        click.echo(f"it works once, within {link['seconds']} seconds", err=True)


def _show(url: str) -> None:
    """Have a browser open the link out of a file: other users could read it from its arguments."""
    descriptor, path = tempfile.mkstemp(".html", "appliance-console-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_PAGE.format(url=html.escape(url)))
    if not webbrowser.open(f"file://{path}"):
        click.echo("no browser can be opened here; use the link", err=True)
