"""The command `index`."""

import json

import click

from appliance.cli import options
from appliance.config import Config
from appliance.errors import InputError
from appliance.model.conditions import json_path
from appliance.model.topics import check_topic
from appliance.store import open_store


@click.command()
@click.argument("topic", required=False)
@click.argument("path", required=False)
@click.option("--drop", is_flag=True, help="Remove the index.")
@options.AS_JSON
@click.pass_obj
def index(
    config: Config, *, topic: str | None, path: str | None, drop: bool, as_json: bool
) -> None:
    r"""Index a value in a topic's JSON bodies, so that searches for it are quick.

    Conditions with = on this topic and path use it (--where customer.id=42). Each message of the
    topic then costs a little more to store. While the index is made, no message is stored (about a
    second for each million); those that are accepted wait in the queue. Without TOPIC and PATH, the
    indexes are listed. For words there is a full-text index already.

    \b
    Examples:
      appliance index orders customer.id
      appliance index orders 'items[0].sku'
      appliance index orders customer.id --drop
      appliance index
    """
    aids = open_store(config).sql_aids
    if topic is None:
        rows = aids.indexes()
        for of, at in rows:
            click.echo(json.dumps({"topic": of, "path": at}) if as_json else f"{of}  {at}")
        if not rows and not as_json:
            click.echo("there is no index; make one: appliance index TOPIC PATH", err=True)
        return
    check_topic(topic)
    if path is None:
        raise InputError("name the value too, for example: appliance index orders customer.id")
    try:
        key = json_path(path)
    except ValueError as error:
        raise InputError(f"PATH: {error}") from error
    if drop:
        if not aids.drop_index(topic, key):
            raise InputError(f"there is no index of {path} in {topic}")
        said = "removed the index"
    else:
        said = "made the index" if aids.make_index(topic, key) else "there is this index already"
    click.echo(json.dumps({"topic": topic, "path": key.text}) if as_json else said)
