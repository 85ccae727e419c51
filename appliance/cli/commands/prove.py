"""The command `prove`: whether a backup can be restored, and has everything that it must have."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from appliance.cli import options
from appliance.cli.progress_bar import clear_bar, progress_bar
from appliance.cli.text.words import counted, printable, size
from appliance.config import Config
from appliance.errors import BackupError
from appliance.machine.priority import lower_this_thread
from appliance.proofs import proof_book
from appliance.store import open_store
from appliance.store.base import Backups
from appliance.store.proving import BackupProof


@click.command()
@click.argument("backup", required=False, type=click.Path(path_type=Path))
@options.AS_JSON
@click.pass_obj
def prove(config: Config, backup: Path | None, *, as_json: bool) -> None:
    r"""Prove that BACKUP can be restored: a file, or the name of one in the folder for backups.

    Without BACKUP it is the newest in that folder. The backup is restored into a scratch folder
    beside the database, verified as `appliance verify` does it, and compared with the ledger and
    with the rows that the database still has. The scratch folder is removed, and nothing else is
    changed. The appliance can run meanwhile; by itself it does this each week
    (APPLIANCE_BACKUP_PROVE_EVERY). Exit status: 0 proven, 1 not proven (something is wrong with the
    backup, or there is no room to try).

    \b
    Examples:
      appliance prove
      appliance prove scheduled-20261121T093000Z.db
      appliance prove /mnt/other-disk/inbox.db --json | jq .faults
    """
    lower_this_thread()
    store = open_store(config)
    path = _found(store.backup, backup)
    with store.in_use():
        proof = store.backup.prove(path, progress_bar())
        clear_bar()
    _enter(config, store.backup, path, proof)
    if as_json:
        click.echo(json.dumps({**asdict(proof), "proven": proof.is_proven}, indent=2))
    else:
        click.echo("\n".join(_lines(path, proof)))
    if not proof.is_proven:
        sys.exit(1)


def _found(backups: Backups, backup: Path | None) -> Path:
    """Return the file: the newest, one of the folder for backups, or any other."""
    if backup is not None:
        inside = backups.folder / backup.name
        is_name = backup.name == str(backup) and not backup.exists()
        return (inside if is_name else backup).absolute()
    newest = next(iter(backups.kept()), None)
    if newest is None:
        raise BackupError(f"there is no backup in {backups.folder}: appliance backup makes one")
    return backups.folder / newest.name


def _enter(config: Config, backups: Backups, path: Path, proof: BackupProof) -> None:
    """Tell the appliance of the outcome, where it is of the newest backup that it has."""
    newest = next(iter(backups.kept()), None)
    if newest is not None and path.resolve() == (backups.folder / newest.name).resolve():
        proof_book.enter(config, proof, newest.made_at)


def _lines(path: Path, proof: BackupProof) -> list[str]:
    what = f"{counted(proof.messages, 'message')}, {size(proof.bytes)}"
    took = f"in {proof.seconds:.1f} s"
    if proof.is_proven:
        lines = [f"proven: {path}", f"  restored: {what}, {took}"]
        if proof.compared is not None:
            lines.append(
                f"  compared: {counted(proof.compared, 'message')} of the database, all of them "
                "are in it"
            )
    else:
        lines = [f"NOT PROVEN: {path}", *(f"  ! {printable(text)}" for text in proof.faults)]
        lines.append(
            "make another backup now (appliance backup), and look at the disk this one lies on"
        )
    return [*lines, *(f"  {printable(text)}" for text in proof.notes)]
