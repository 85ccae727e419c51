"""`appliance replay`: stored messages again, to an endpoint or into a topic, over the API."""

import json
import sys
from typing import Any

import click

from appliance.cli import filter_options, options, replay_client
from appliance.cli.text import replay_text
from appliance.config import Config


@click.group(cls=options.Group)
def replay() -> None:
    r"""Send stored messages again, to an endpoint or as copies into a topic.

    A replay goes on by itself, in parts, beside new messages; it can be stopped and resumed.

    \b
    Examples:
      appliance replay create --endpoint erp --since 2d
      appliance replay create --into orders.again --topic 'orders.*' --where 'total>=100'
      appliance replay list
      appliance replay stop 01890a5d-ac96-774b-bcce-b302099a8057
    """


@replay.command()
@click.option("--endpoint", metavar="NAME", help="The endpoint that gets the messages again.")
@click.option(
    "--into", callback=options.topic, metavar="TOPIC",
    help="The topic into which copies of the messages go.",
)  # fmt: skip
@click.option(
    "--topic", "topics", multiple=True, metavar="PATTERN",
    help="Messages of this topic, or of a pattern such as 'orders.*' (what the endpoint gets; "
    "into a topic: every one).",
)  # fmt: skip
@filter_options.chosen
@click.option("--search", "q", metavar="WORDS", help="Messages in whose text these words are.")
@click.option("--first-seq", type=click.IntRange(1), help="The first message, by its seq.")
@click.option("--last-seq", type=click.IntRange(1), help="The last message, by its seq.")
@click.option("--sql", help="A query for the seq of messages: it reads only, for 10 s at most.")
@click.option(
    "--sql-file", type=click.File("r", encoding="utf-8"), help="The same from a file; - is stdin."
)
@click.option("--dry-run", is_flag=True, help="Only say how many messages are selected.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option(
    "--follow/--no-follow", default=None,
    help="Wait until it is done, and show the progress (on a terminal).",
)  # fmt: skip
@options.AS_JSON
@click.pass_obj
def create(
    config: Config,
    /,
    *,
    endpoint: str | None,
    into: str | None,
    sql_file: Any,
    dry_run: bool,
    yes: bool,
    follow: bool | None,
    as_json: bool,
    **selected: Any,
) -> None:
    r"""Send messages again that are stored now, once it has said how many they are.

    All that is given must hold; --sql selects alone. An endpoint gets what it would get anyway,
    unless --topic names topics. Messages keep their webhook-id, are signed anew, and have the
    header appliance-replay. Copies in a topic have ids of their own; each is made once.

    Ctrl-C ends only the waiting; `appliance replay stop` stops the replay. Without a terminal to
    confirm on, --yes is needed.

    \b
    Examples:
      appliance replay create --endpoint erp --since 2d --dry-run
      appliance replay create --endpoint erp --first-seq 1000 --last-seq 2000 --yes
      appliance replay create --into test --topic orders --where 'customer.id=42'
      appliance replay create --endpoint erp --sql "SELECT seq FROM deliveries WHERE status = 500"
    """
    if (endpoint is None) == (into is None):
        raise click.UsageError("give --endpoint or --into: where do the messages go?")
    if sql_file is not None:
        if selected["sql"] is not None:
            raise click.UsageError("give --sql or --sql-file, not both")
        try:
            selected["sql"] = sql_file.read()
        except UnicodeDecodeError as error:
            raise click.UsageError("--sql-file: expected text in UTF-8") from error
    select = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in selected.items()
        if value not in (None, ())
    }
    wish = {"endpoint": endpoint, "into": into, "select": select}
    wish = {name: value for name, value in wish.items() if value is not None}
    if dry_run or not yes:
        counted = replay_client.send(config, "POST", "", {**wish, "dry_run": True})
        if dry_run:
            click.echo(json.dumps(counted) if as_json else replay_text.count(counted))
            return
        _confirm(counted)
    made = replay_client.send(config, "POST", "", wish)
    if follow is None:
        follow = sys.stderr.isatty() and not as_json
    if not follow:
        click.echo(json.dumps(made) if as_json else made["id"])
        return
    if not as_json:
        click.echo(made["id"])
    _follow(config, made, as_json=as_json)


@replay.command("list")
@options.AS_JSON
@click.pass_obj
def list_replays(config: Config, *, as_json: bool) -> None:
    r"""List replays, the newest first, 100 at most.

    \b
    Example:
      appliance replay list
    """
    found = replay_client.send(config, "GET", "")
    if as_json:
        click.echo(json.dumps(found))
    elif found["replays"]:
        click.echo(replay_text.table(found["replays"]))
    else:
        click.echo("no replay; `appliance replay create` makes one", err=True)


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--follow", is_flag=True, help="Wait until it is done, and show the progress.")
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, replay_id: str, follow: bool, as_json: bool) -> None:
    r"""Show a replay: what it is for, and how far it has come.

    \b
    Examples:
      appliance replay show 01890a5d-ac96-774b-bcce-b302099a8057
      appliance replay show 01890a5d-ac96-774b-bcce-b302099a8057 --follow
    """
    found = replay_client.about(config, "GET", replay_id)
    if follow:
        _follow(config, found, as_json=as_json)
    else:
        click.echo(json.dumps(found) if as_json else replay_text.whole(found))


@replay.command()
@click.argument("replay_id", metavar="ID")
@options.AS_JSON
@click.pass_obj
def stop(config: Config, *, replay_id: str, as_json: bool) -> None:
    r"""Stop a replay. What is under way is finished; `resume` goes on where it was.

    \b
    Example:
      appliance replay stop 01890a5d-ac96-774b-bcce-b302099a8057
    """
    _steer(replay_client.about(config, "POST", replay_id, "/stop"), as_json=as_json)


@replay.command()
@click.argument("replay_id", metavar="ID")
@options.AS_JSON
@click.pass_obj
def resume(config: Config, *, replay_id: str, as_json: bool) -> None:
    r"""Let a stopped replay go on where it was.

    \b
    Example:
      appliance replay resume 01890a5d-ac96-774b-bcce-b302099a8057
    """
    _steer(replay_client.about(config, "POST", replay_id, "/resume"), as_json=as_json)


def _confirm(counted: dict[str, Any]) -> None:
    words = replay_text.count(counted)
    if not sys.stdin.isatty():
        raise click.UsageError(f"would send {words}; give --yes")
    click.confirm(f"Send {words}?", abort=True, err=True)


def _follow(config: Config, found: dict[str, Any], *, as_json: bool) -> None:
    ended = replay_client.wait(config, found, shown=sys.stderr.isatty())
    if as_json:
        click.echo(json.dumps(ended))
    else:
        click.echo(replay_text.outcome(ended), err=True)
    if ended["state"] == "failed":
        raise SystemExit(1)


def _steer(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(replay_text.outcome(found), err=True)
