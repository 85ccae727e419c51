"""The command `view`."""

import json
import re

import click

from appliance.cli import options
from appliance.config import Config
from appliance.errors import InputError
from appliance.model.shape import shape_of
from appliance.model.topics import check_topic
from appliance.store import open_store
from appliance.store.samples import SAMPLE_ROWS, newest_bodies

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)


@click.command()
@click.argument("topic")
@click.option("--name", help="The view's name; without it, the topic's, with _ for other signs.")
@click.option("--drop", is_flag=True, help="Remove the view.")
@options.AS_JSON
@click.pass_obj
def view(config: Config, *, topic: str, name: str | None, drop: bool, as_json: bool) -> None:
    r"""Make an SQL view of a topic, with a column for each key of its JSON bodies.

    The keys are those of the newest 1,000 messages. Called again, the view keeps its columns, and
    gets those of new keys. It needs no room, and storing a message costs the same with it. A body
    that is not JSON has empty columns.

    \b
    Examples:
      appliance view readings
      appliance view orders.eu --name orders
      appliance view orders.eu --name orders --drop
    """
    check_topic(topic)
    name = name or _name(topic)
    if not _NAME.fullmatch(name):
        raise InputError("--name: expected letters, digits and underscores, not a digit first")
    store = open_store(config)
    if drop:
        if not store.sql_aids.drop_view(name):
            raise InputError(f"there is no view {name}")
        click.echo(json.dumps({"dropped": name}) if as_json else f"removed the view {name}")
        return
    with store.in_use():
        shape = shape_of(newest_bodies(store.reader, topic))
        if not shape.keys:
            raise InputError(
                f"the newest {SAMPLE_ROWS:,} messages of {topic} have no JSON object with a key"
            )
        columns = store.sql_aids.make_view(topic, name, shape.keys)
    if as_json:
        click.echo(json.dumps({"view": name, "columns": [each._asdict() for each in columns]}))
        return
    click.echo(f"made the view {name} with {len(columns)} columns:")
    for column in columns:
        click.echo(
            f"  {column.name}" + (f"  ({column.path})" if column.path != column.name else "")
        )
    if shape.left_out:
        click.echo("left out: keys beyond 200, or with a quote or backslash in their name")
    program = "psql" if config.database_url else "sqlite3 -readonly"
    click.echo(f"read it with SQL, for example in: {program} {store.location}")


def _name(topic: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "_", topic)
    return plain if not plain[0].isdigit() else f"topic_{plain}"
