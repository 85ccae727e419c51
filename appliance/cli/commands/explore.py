"""The command `explore`."""

from pathlib import Path

import click

from appliance.cli import exploring
from appliance.config import Address, Config
from appliance.errors import ConfigError
from appliance.store import open_store
from appliance.supervision import addresses


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8001, show_default=True,
    help="The port to listen on, on this machine only.",
)  # fmt: skip
@click.pass_obj
def explore(config: Config, port: int) -> None:
    r"""Explore the database in a browser, with Datasette: tables, facets, queries, SQL.

    It only reads, beside the running appliance or without it, and listens on this machine only. It
    prints a link that signs in once. Tables with secrets, tokens and sessions are hidden, and SQL
    reads nothing of them. Ctrl-C ends it. It needs the package datasette:
    pip install 'queue-appliance[explore]'.

    \b
    Examples:
      appliance explore
      appliance explore --port 9000
    """
    if config.database_url:
        raise ConfigError(
            "APPLIANCE_DATABASE_URL: Datasette shows SQLite files, and messages are stored in "
            "PostgreSQL; open the console (appliance open), or read it with psql"
        )
    exploring.require()
    store = open_store(config)
    database = Path(store.location)
    if not database.is_file():
        raise ConfigError(f"APPLIANCE_DATA: there is no database {database} yet")
    addresses.refuse_taken("--port", Address(exploring.HOST, port))
    with store.in_use():
        store.reader.check()
        datasette, path = exploring.application(database)
        click.echo(f"http://{exploring.HOST}:{port}{path}")
        click.echo("the link signs in once; Ctrl-C ends this", err=True)
        exploring.serve(datasette, port)
