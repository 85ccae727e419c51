"""The command `export`."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from appliance.api.views.columns import JsonColumns
from appliance.cli import filter_options, move_store, options
from appliance.cli.exporting import Tally, copied, opened
from appliance.client import Client
from appliance.config import Config
from appliance.model import timestamps

FORMATS: Final = ("ndjson", "csv", "parquet")
#: Options that move the database, and those that they can have beside them.
_OF_A_MOVE: Final = frozenset({"to", "to_file", "undo", "yes", "as_json"})
#: Seconds of retrying while the appliance is unreachable or busy, until the export begins.
_PATIENCE: Final = 30.0


@click.command()
@click.argument("topic", required=False, callback=options.topic)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), show_default="by --output's ending, or ndjson",
    help="The form: ndjson is exact, csv is for spreadsheets, parquet is both, and needs pyarrow.",
)  # fmt: skip
@click.option(
    "--columns",
    help="For csv and parquet: paths in the JSON bodies, such as device,data.temperature.",
)
@click.option("--excel", is_flag=True, help="A csv that Excel opens without changing a digit.")
@filter_options.chosen
@click.option("--q", "words", help="Only messages with these words in their bodies.")
@click.option("-n", "--limit", type=click.IntRange(1), help="This many at most.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, allow_dash=True),
    help="The file to write, in place of one that is there; - is standard output, the default.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True,
    help="Report to standard output as JSON; needs --output or --to.",
)  # fmt: skip
@click.option(
    "--to", metavar="DATABASE",
    help="Move everything to this database: postgresql://USER@HOST/DATABASE or sqlite:[FILE].",
)  # fmt: skip
@click.option(
    "--to-file", type=click.Path(path_type=Path),
    help="The same, its URL in a file: one with a password is no argument.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Let a database that was moved take messages again.")
@click.option("--yes", is_flag=True, help="Don't ask before --undo.")
@click.pass_obj
def export(
    config: Config,
    *,
    topic: str | None,
    form: str | None,
    columns: str | None,
    excel: bool,
    since: str | None,
    until: str | None,
    where: tuple[str, ...],
    kind: str | None,
    words: str | None,
    limit: int | None,
    output: Path | None,
    as_json: bool,
    to: str | None,
    to_file: Path | None,
    undo: bool,
    yes: bool,
) -> None:
    r"""Write messages to a file or to standard output, oldest first: TOPIC's, or those of all.

    Messages that are stored meanwhile are left out. A file appears when it is whole: an export that
    fails leaves the one before as it was. It takes the same little memory however long it is.

    With --to everything that is stored moves to a database of another engine, whole or not at all,
    while the appliance runs: messages wait in the queue, and the database that is left takes no
    more. Each table is read back and compared. Then start the appliance on the new one. Exit
    status: 0 moved and the same, 1 not moved.

    \b
    Examples:
      appliance export orders --output orders.ndjson
      appliance export readings --columns device,data.temperature --since 1d -o readings.csv
      appliance export orders --excel -o orders.csv
      appliance export readings -o readings.parquet
      appliance export --since 2026-01-01 --until 2026-02-01 | gzip > january.ndjson.gz
      appliance export orders --where 'customer.id=42' --where 'total>100'
      appliance export --to postgresql://appliance@db/appliance
      appliance export --to-file /etc/appliance/database-url
      appliance export --to sqlite:
      appliance export --undo
    """
    if to is not None or to_file is not None or undo or yes:
        _move(config, click.get_current_context().params)
        return
    target = None if output is None or str(output) == "-" else output
    form = form or _form_of(target, columns, excel=excel)
    if excel and form != "csv":
        raise click.UsageError("--excel needs --format csv")
    if columns and form == "ndjson":
        raise click.UsageError("--columns needs --format csv or parquet")
    if form == "parquet" and target is None and sys.stdout.isatty():
        raise click.UsageError("parquet is nothing for a terminal; give --output FILE")
    if as_json and target is None:
        raise click.UsageError("--json needs --output: standard output is the export's")
    query = {"since": since, "until": until, "where": where, "kind": kind, "q": words}
    path = f"/v1/topics/{topic}/messages" if topic else "/v1/messages"
    tally = Tally()
    with Client.of(config) as client:
        source = _Source(client, path, {**query, "limit": limit})
        try:
            if form == "parquet":
                _write_parquet(source, target, columns, tally)
            else:
                style = {"columns": columns, "for": "excel" if excel else None}
                pieces = source.pieces(form, **style)
                with opened(target) as file:
                    copied(pieces, file, tally, table=form == "csv")
        finally:
            tally.end()
    if as_json:
        report = {"messages": tally.rows, "bytes": tally.bytes, "format": form}
        click.echo(json.dumps({**report, "file": str(target)}))
    elif target is not None or sys.stderr.isatty():
        click.echo(f"{tally.words()}{f' in {target}' if target else ''}", err=True)


def _move(config: Config, options: Mapping[str, Any]) -> None:
    if any(value for name, value in options.items() if name not in _OF_A_MOVE):
        raise click.UsageError("--to and --undo are about everything: leave out what chooses")
    to, file = options["to"], options["to_file"]
    if not options["undo"]:
        if options["yes"]:
            raise click.UsageError("--yes needs --undo: nothing else asks")
        target = move_store.named_store(config, to, file)
        move_store.move_store(config, target, as_json=options["as_json"])
    elif to is None and file is None:
        move_store.reopen_store(config, yes=options["yes"])
    else:
        raise click.UsageError("--undo is about the database of the settings: leave out --to")


@dataclass
class _Source:
    """The messages that are asked for, as often as they are read."""

    client: Client
    path: str
    query: dict[str, Any]

    def pieces(self, form: str, **style: str | None) -> Iterator[bytes]:
        """Yield the answer in this form, piece by piece."""
        query = filter_options.query_of(**self.query, **style, format=form, after="0")
        return self.client.download(f"{self.path}?{query}", patience=_PATIENCE)


def _write_parquet(source: _Source, target: Path | None, columns: str | None, tally: Tally) -> None:
    """Write the messages as Parquet.

    With `columns` they are read twice: the types follow from all values. What is stored meanwhile
    is left out both times.
    """
    from appliance.cli import parquet  # an extra

    arrow = parquet.require()
    named = JsonColumns(columns).named if columns else []
    types: list[Any] = []
    if named:
        source.query["until"] = source.query["until"] or timestamps.now()
        kinds = parquet.Kinds([path for _, path in named])
        for row in parquet.rows_of(source.pieces("ndjson")):
            kinds.look_at(row)
        types = kinds.types(arrow)
    pieces = source.pieces("ndjson")
    with opened(target) as file:
        writer = parquet.ParquetWriter(file, named, types)
        writer.write(parquet.rows_of(pieces), tally)
        writer.close()


def _form_of(target: Path | None, columns: str | None, *, excel: bool) -> str:
    """Return the format that the file's ending or another option asks for."""
    ending = target.suffix.lower().lstrip(".") if target else ""
    if ending in FORMATS:
        return ending
    return "csv" if columns or excel else "ndjson"
