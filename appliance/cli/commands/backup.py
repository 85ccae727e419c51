"""Commands that copy the database and put a copy in its place: `backup`, `restore`."""

import json
import sys
from pathlib import Path

import click

from appliance.cli.text.status_text import size
from appliance.config import Config
from appliance.store import open_store
from appliance.store.base import Progress, Restoration


@click.command()
@click.argument("to", required=False, type=click.Path(path_type=Path))
@click.option(
    "--scheduled",
    is_flag=True,
    help="For a timer: name it so, and delete the oldest such beyond APPLIANCE_BACKUP_KEEP.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON object on stdout.")
@click.pass_obj
def backup(config: Config, to: Path | None, scheduled: bool, as_json: bool) -> None:
    r"""Copy the database to the file TO, or into the folder TO, while it is in use or not.

    Without TO it is a new file in the folder for backups (`backups` in the data folder). The copy
    is checked, and is there whole or not at all. Exit status: 0 it is there, 1 it is not.

    \b
    Examples:
      appliance backup
      appliance backup /mnt/other-disk/inbox.db
      docker exec inbox appliance backup
    """
    if scheduled and to:
        raise click.UsageError("--scheduled goes into the folder for backups: leave out TO")
    store = open_store(config)
    backups = store.backup
    target = (to or backups.folder).absolute()
    if to is None:
        backups.make_folder()
    if target.is_dir():
        target /= backups.name(scheduled=scheduled)
    with store.in_use():
        copy = backups.make(target, _progress())
    if scheduled:
        backups.prune(config.backup_keep)
    if as_json:
        click.echo(json.dumps({**copy._asdict(), "path": str(copy.path)}))
        return
    click.echo(str(copy.path))
    summary = f"{copy.messages:,} messages, {size(copy.bytes)}, checked, in {copy.seconds:.1f} s"
    click.echo(summary, err=True)


@click.command()
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def restore(config: Config, source: Path, yes: bool) -> None:
    r"""Put the backup FROM in the place of the database of a stopped appliance.

    FROM is checked first and stays as it is. The database that it replaces is kept beside it. What
    is in the queue is not touched: it is stored into the restored database, once. What was stored
    after the backup was made is only in the replaced database from then on; it is counted and
    shown before you are asked. Exit status: 0 restored, 1 not (nothing was changed), 2 not asked
    for with --yes where there is no terminal to ask on.

    \b
    Examples:
      appliance restore var/backups/appliance-20261121T093000Z.db
      docker run --rm -it -v appliance:/data queue-appliance appliance restore /data/backups/X.db
    """
    store = open_store(config)
    with store.restore(source.absolute(), _progress()) as restoration:
        for line in _summary(source, restoration):
            click.echo(line, err=True)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("there is no terminal to ask on; give --yes to restore")
            click.confirm("Restore?", abort=True, err=True)
        replaced = restoration.put_in_place()
    click.echo(f"restored {store.location}", err=True)
    if replaced:
        click.echo(f"the replaced database is {replaced}; delete it when you are sure", err=True)


def _summary(source: Path, ready: Restoration) -> list[str]:
    """Return what a restore would do, in words."""
    last = f", the last of {ready.last_at}" if ready.last_at else ""
    lines = [f"{source}: {ready.messages:,} messages, {size(ready.bytes)}, sound{last}"]
    if ready.migrated:
        lines.append(f"it is older than this program: migrated ({', '.join(ready.migrated)})")
    if ready.trouble:
        lines.append(
            f"the present database can't be read: {ready.trouble}; it is kept all the same"
        )
    elif ready.left_messages is None:
        lines.append("there is no present database")
    elif ready.left_messages or ready.left_dead_letters:
        lines.append(
            f"{ready.left_messages:,} messages and {ready.left_dead_letters:,} dead letters of the "
            "present database are not in the backup: they were stored since, and will only be in "
            "the replaced database, not in the restored one"
        )
    else:
        lines.append("the present database has nothing that is not in the backup")
    return lines


def _progress() -> Progress:
    """Return a function that shows the progress on a terminal."""
    shown = ""

    def show(step: str, share: float | None) -> bool:
        nonlocal shown
        text = step if share is None else f"{step} {share:4.0%}"
        if text != shown:
            click.echo(f"\r{text:<20}\r", nl=False, err=True)
            shown = text
        return True

    return show if sys.stderr.isatty() else lambda _step, _share: True
