"""The command `export`."""

import json
import sys
from pathlib import Path
from typing import Final

import click

from appliance.cli import filter_options, options
from appliance.cli.exporting import Tally, copied, opened
from appliance.client import Client
from appliance.config import Config

FORMATS: Final = ("ndjson", "csv")
#: Seconds of retrying while the appliance is unreachable or busy, until the export begins.
_PATIENCE: Final = 30.0


@click.command()
@click.argument("topic", required=False, callback=options.topic)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), show_default="by --output's ending, or ndjson",
    help="The form: ndjson is exact, csv is for spreadsheets.",
)  # fmt: skip
@click.option(
    "--columns", help="For csv: paths in the JSON bodies, such as device,data.temperature."
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
    "--json", "as_json", is_flag=True, help="Report to standard output as JSON; needs --output."
)
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
) -> None:
    r"""Write messages to a file or to standard output, oldest first: TOPIC's, or those of all.

    Messages that are stored meanwhile are left out. A file appears when it is whole: an export that
    fails leaves the one before as it was. It takes the same little memory however long it is.

    \b
    Examples:
      appliance export orders --output orders.ndjson
      appliance export readings --columns device,data.temperature --since 1d -o readings.csv
      appliance export orders --excel -o orders.csv
      appliance export --since 2026-01-01 --until 2026-02-01 | gzip > january.ndjson.gz
      appliance export orders --where 'customer.id=42' --where 'total>100'
    """
    target = None if output is None or str(output) == "-" else output
    form = form or _form_of(target, columns, excel=excel)
    if form != "csv" and (columns or excel):
        raise click.UsageError(f"{'--columns' if columns else '--excel'} needs --format csv")
    if as_json and target is None:
        raise click.UsageError("--json needs --output: standard output is the export's")
    query = filter_options.query_of(
        **{"format": form, "for": "excel" if excel else None, "columns": columns, "after": "0"},
        since=since,
        until=until,
        where=where,
        kind=kind,
        q=words,
        limit=limit,
    )
    tally = Tally()
    with Client.of(config) as client:
        path = f"/v1/topics/{topic}/messages" if topic else "/v1/messages"
        pieces = client.download(f"{path}?{query}", patience=_PATIENCE)
        try:
            with opened(target) as file:
                copied(pieces, file, tally, table=form == "csv")
        finally:
            tally.end()
    if as_json:
        report = {"messages": tally.rows, "bytes": tally.bytes, "format": form}
        click.echo(json.dumps({**report, "file": str(target)}))
    elif target is not None or sys.stderr.isatty():
        click.echo(f"{tally.words()}{f' in {target}' if target else ''}", err=True)


def _form_of(target: Path | None, columns: str | None, *, excel: bool) -> str:
    """Return the format that the file's ending or another option asks for."""
    ending = target.suffix.lower().lstrip(".") if target else ""
    if ending in FORMATS:
        return ending
    return "csv" if columns or excel else "ndjson"
