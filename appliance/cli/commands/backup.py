"""Commands that copy the database and put a copy in its place: `backup`, `restore`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from appliance.cli import options
from appliance.cli.text.words import counted, printable, size
from appliance.config import Config
from appliance.store import open_store
from appliance.store.base import Progress, Restoration, Store
from appliance.store.rows import Rescued


@click.command()
@click.argument("to", required=False, type=click.Path(path_type=Path))
@click.option(
    "--scheduled",
    is_flag=True,
    help="For a timer: mark it as scheduled, and keep APPLIANCE_BACKUP_KEEP scheduled ones.",
)
@click.option(
    "--rescue",
    is_flag=True,
    help="Of a damaged database: copy all that can be read, and say what can't.",
)
@options.AS_JSON
@click.pass_obj
def backup(
    config: Config, to: Path | None, *, scheduled: bool, rescue: bool, as_json: bool
) -> None:
    r"""Copy the database to the file TO, or into the folder TO, running or stopped.

    Without TO the copy is a new file in the folder for backups (`backups` in the data folder). It
    is checked, and is written whole or not at all. Exit status: 0 copied, 1 not copied.

    A damaged database can't be copied as it is. With --rescue its readable rows go into a new,
    sound file, which `appliance restore` can put in its place. Exit status 1 where anything is
    lost, or may be.

    \b
    Examples:
      appliance backup
      appliance backup /mnt/other-disk/inbox.db
      appliance backup --rescue
      docker exec inbox appliance backup
    """
    if scheduled and to:
        raise click.UsageError("--scheduled goes into the folder for backups: leave out TO")
    if scheduled and rescue:
        raise click.UsageError("--rescue is for one damaged database, not for a schedule")
    store = open_store(config)
    backups = store.backup
    target = (to or backups.folder).absolute()
    if to is None:
        backups.make_folder()
    if target.is_dir():
        target /= ("rescued-" if rescue else "") + backups.name(scheduled=scheduled)
    if rescue:
        _rescue(store, target, as_json=as_json)
        return
    with store.in_use():
        copy = backups.make(target, _progress())
    if scheduled:
        backups.prune(config.backup_keep)
    if as_json:
        click.echo(json.dumps({**copy._asdict(), "path": str(copy.path)}))
        return
    click.echo(str(copy.path))
    click.echo(
        f"{counted(copy.messages, 'message')}, {size(copy.bytes)}, checked, "
        f"in {copy.seconds:.1f} s",
        err=True,
    )


def _rescue(store: Store, target: Path, *, as_json: bool) -> None:
    with store.in_use():
        rescued = store.backup.rescue(target, _progress())
    whole = not rescued.unknown and not any(rescued.lost.values())
    if as_json:
        click.echo(json.dumps({**asdict(rescued), "path": str(rescued.path), "whole": whole}))
    else:
        click.echo(str(rescued.path))
        for line in _rescued_text(rescued):
            click.echo(line, err=True)
    if not whole:
        sys.exit(1)


def _rescued_text(rescued: Rescued) -> list[str]:
    """Describe what was read, what was lost, and what to do next."""
    messages, dead = rescued.rows["messages"], rescued.rows["dead_letters"]
    lines = [
        f"read: {counted(messages, 'message')}, {counted(dead, 'dead letter')}; the copy is sound"
    ]
    lines += [
        f"lost: {counted(count, 'row')} of {table}"
        for table, count in rescued.lost.items()
        if count
    ]
    if rescued.ids:
        lines.append(f"lost messages, the first ones: {', '.join(map(printable, rescued.ids))}")
    if rescued.unknown:
        lines.append(f"rows that no index names may be lost of: {', '.join(rescued.unknown)}")
    return [*lines, f"to go on with it: stop the appliance, then appliance restore {rescued.path}"]


@click.command()
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.pass_obj
def restore(config: Config, source: Path, yes: bool) -> None:
    r"""Replace the database of a stopped appliance by the backup FROM.

    FROM is checked first and stays as it is. The replaced database is kept beside the new one.
    Messages in the queue are not touched: they are stored into the restored database, once.
    Messages stored after the backup was made are only in the replaced database; you are shown
    their number before you are asked. Exit status: 0 restored, 1 not restored (nothing was
    changed), 2 no terminal to confirm on and --yes not given.

    \b
    Examples:
      appliance restore var/backups/appliance-20261121T093000Z.db
      docker run --rm -it -v appliance:/data queue-appliance appliance restore /data/backups/X.db
    """
    store = open_store(config)
    with store.restore(source.absolute(), _progress()) as restoration:
        for line in _described(source, restoration):
            click.echo(line, err=True)
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("there is no terminal to confirm on; give --yes to restore")
            click.confirm("Restore?", abort=True, err=True)
        replaced = restoration.put_in_place()
    click.echo(f"restored {store.location}", err=True)
    if replaced:
        click.echo(
            f"the replaced database is {replaced}; delete it when you don't need it any more",
            err=True,
        )


def _described(source: Path, ready: Restoration) -> list[str]:
    """Describe what a restore would do."""
    last = f", the last of {ready.last_at}" if ready.last_at else ""
    lines = [f"{source}: {counted(ready.messages, 'message')}, {size(ready.bytes)}, sound{last}"]
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
            f"{counted(ready.left_messages, 'message')} and "
            f"{counted(ready.left_dead_letters or 0, 'dead letter')} of the present database "
            "are not in the backup: they were stored since, and will only be in the replaced one"
        )
    else:
        lines.append("everything in the present database is in the backup")
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
