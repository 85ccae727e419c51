"""`appliance endpoint`: where stored messages go on to, over the API."""

import json
import sys
from typing import Any

import click

from appliance.cli import endpoint_options, options
from appliance.cli.endpoint_client import about, rows, send
from appliance.cli.endpoint_options import telling, told_by
from appliance.cli.inbox_options import read_secret
from appliance.cli.text import endpoint_text
from appliance.cli.text.words import counted
from appliance.config import Config


@click.group(cls=options.Group)
def endpoint() -> None:
    r"""Send stored messages on to other systems, by POST to a URL.

    An endpoint gets each message at least once, signed as Standard Webhooks asks. One that fails is
    tried again for days, then given up: it is listed, and can be redriven.

    \b
    Examples:
      appliance endpoint create erp https://erp.example.com/hooks --topic 'orders.*'
      appliance endpoint list
      appliance endpoint show erp
      appliance endpoint deliveries erp --failed
      appliance endpoint redrive erp --all
    """


@endpoint.command()
@click.argument("name")
@click.argument("url")
@telling
@click.option(
    "--from", "start", default="now", show_default=True,
    help="The first message that it gets: now, beginning, or the seq of a message.",
)  # fmt: skip
@endpoint_options.SECRET_FILE
@options.AS_JSON
@click.pass_obj
def create(
    config: Config,
    /,
    *,
    name: str,
    url: str,
    start: str,
    secret_file: str | None,
    as_json: bool,
    **told: Any,
) -> None:
    r"""Send new messages on to URL, and print the secret that they are signed with.

    The secret is shown only now; --secret-file gives one of your own. Private addresses are
    refused, unless the setting APPLIANCE_DELIVER_ALLOW lists them.

    \b
    Examples:
      appliance endpoint create erp https://erp.example.com/hooks --topic 'orders.*'
      appliance endpoint create big https://example.com/big --topic orders --where 'total>=1000'
      appliance endpoint create copy https://example.com/all --from beginning --rate 50/s
      appliance endpoint create steps https://example.com/in --ordered --lifetime 7d
      appliance endpoint create crm https://example.com/in --header-file Authorization=auth.txt
    """
    wish = {"name": name, "url": url, "from": start, **told_by(told)}
    if secret_file is not None:
        wish["secret"] = read_secret(secret_file)
    made = send(config, "POST", "", wish).json()
    if as_json:
        click.echo(json.dumps(made))
        return
    if secret_file is None:
        click.echo(made["secret"])
    for line in endpoint_text.after_making(made, is_own=secret_file is not None):
        click.echo(line, err=True)


@endpoint.command("list")
@options.AS_JSON
@click.pass_obj
def list_endpoints(config: Config, *, as_json: bool) -> None:
    r"""List endpoints: how far behind each is, and whether it fails.

    \b
    Example:
      appliance endpoint list
    """
    found = send(config, "GET", "").json()
    if as_json:
        click.echo(json.dumps(found))
    elif found["endpoints"]:
        click.echo(endpoint_text.table(found["endpoints"]))
    else:
        click.echo("no endpoint; `appliance endpoint create NAME URL` makes one", err=True)


@endpoint.command()
@click.argument("name")
@options.AS_JSON
@click.pass_obj
def show(config: Config, *, name: str, as_json: bool) -> None:
    r"""Show an endpoint: its state, its lag, its breaker and its settings.

    \b
    Example:
      appliance endpoint show erp
    """
    _print(about(config, "GET", name).json(), as_json)


@endpoint.command()
@click.argument("name")
@click.option("--url", help="Where messages go from now on.")
@telling
@click.option(
    "--unset", multiple=True, metavar="WHAT",
    help="Give a setting its default back; topics, where and own-headers can be named too.",
)  # fmt: skip
@options.AS_JSON
@click.pass_obj
def change(
    config: Config,
    /,
    *,
    name: str,
    url: str | None,
    unset: tuple[str, ...],
    as_json: bool,
    **told: Any,
) -> None:
    r"""Change an endpoint's URL, topics, conditions, headers or settings.

    It goes on where it was. Topics, conditions and headers replace those from before.

    \b
    Examples:
      appliance endpoint change erp --url https://erp.example.com/v2
      appliance endpoint change erp --rate 20/s --unset where
    """
    wish = told_by(told) | ({} if url is None else {"url": url})
    for word in (each.replace("-", "_") for each in unset):
        if word in ("topics", "where"):
            wish[word] = []
        elif word == "own_headers":
            wish[word] = {}
        else:
            wish.setdefault("settings", {})[word] = None
    if not wish:
        raise click.UsageError("give an option: what is to be changed?")
    _print(about(config, "PATCH", name, "", wish).json(), as_json)


@endpoint.command("test")
@click.argument("name")
@options.AS_JSON
@click.pass_obj
def send_test(config: Config, *, name: str, as_json: bool) -> None:
    r"""Send an endpoint one signed test message now, and show its receiver's answer.

    It has the topic appliance.test and is stored nowhere. Exit status 1: the receiver did not take
    it.

    \b
    Example:
      appliance endpoint test erp
    """
    tried = about(config, "POST", name, "/test").json()
    click.echo(json.dumps(tried) if as_json else endpoint_text.tried(tried))
    if not tried["ok"]:
        raise click.exceptions.Exit(1)


@endpoint.command()
@click.argument("name")
@click.option("--reason", help="Why; it is shown until the endpoint is resumed.")
@click.pass_obj
def pause(config: Config, *, name: str, reason: str | None) -> None:
    r"""Let an endpoint get nothing until it is resumed. Messages wait for it.

    \b
    Examples:
      appliance endpoint pause erp
      appliance endpoint pause erp --reason 'moves to another host'
    """
    about(config, "POST", name, "/pause", {"reason": reason} if reason else {})
    click.echo(f"{name} is paused; `appliance endpoint resume {name}` goes on", err=True)


@endpoint.command()
@click.argument("name")
@click.pass_obj
def resume(config: Config, *, name: str) -> None:
    r"""Let an endpoint get messages again, from where it was.

    One that fails is tried at once.

    \b
    Example:
      appliance endpoint resume erp
    """
    about(config, "POST", name, "/resume")
    click.echo(f"{name} gets messages again", err=True)


@endpoint.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.pass_obj
def remove(config: Config, *, name: str, yes: bool) -> None:
    r"""Remove an endpoint, with all that waits for it. Stored messages stay stored.

    \b
    Example:
      appliance endpoint remove erp
    """
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove the endpoint {name}?", abort=True, err=True)
    about(config, "DELETE", name)
    click.echo(f"{name} is removed", err=True)


@endpoint.command()
@click.argument("name")
@click.option("--failed", is_flag=True, help="Only attempts that failed.")
@click.option("--message", metavar="ID", help="Only attempts of the message with this id.")
@endpoint_options.MOST
@endpoint_options.EACH_AS_JSON
@click.pass_obj
def deliveries(
    config: Config, *, name: str, failed: bool, message: str | None, most: int, as_json: bool
) -> None:
    r"""List attempts to deliver, the newest first: status, milliseconds, the answer.

    \b
    Examples:
      appliance endpoint deliveries erp
      appliance endpoint deliveries erp --failed -n 100
      appliance endpoint deliveries erp --message 01a213ff-ecfd-7cc0-8000-b5a1c2d3e4f5
    """
    query = {"failed": "true"} if failed else {}
    if message is not None:
        query["message"] = message
    shown = 0
    for row in rows(config, name, "deliveries", query, most):
        click.echo(json.dumps(row) if as_json else endpoint_text.attempt(row, head=not shown))
        shown += 1
    if not as_json:
        click.echo(counted(shown, "attempt"), err=True)


@endpoint.command()
@click.argument("name")
@click.option(
    "--state", type=click.Choice(["any", "waiting", "given-up", "gone"]), default="any",
    help="Only those that wait for their next attempt, were given up, or are deleted (any).",
)  # fmt: skip
@endpoint_options.MOST
@endpoint_options.EACH_AS_JSON
@click.pass_obj
def undelivered(config: Config, *, name: str, state: str, most: int, as_json: bool) -> None:
    r"""List messages whose delivery failed so far, the newest first.

    \b
    Examples:
      appliance endpoint undelivered erp
      appliance endpoint undelivered erp --state given-up
    """
    shown = 0
    for row in rows(config, name, "undelivered", {"state": state}, most):
        click.echo(json.dumps(row) if as_json else endpoint_text.undelivered(row, head=not shown))
        shown += 1
    if not as_json:
        click.echo(counted(shown, "message"), err=True)


@endpoint.command()
@click.argument("name")
@click.argument("ids", nargs=-1, type=click.IntRange(1))
@endpoint_options.EVERY
@options.AS_JSON
@click.pass_obj
def redrive(
    config: Config, *, name: str, ids: tuple[int, ...], everything: bool, as_json: bool
) -> None:
    r"""Try messages again that were given up: some by the id that `undelivered` lists, or all.

    \b
    Examples:
      appliance endpoint redrive erp 17 18
      appliance endpoint redrive erp --all
    """
    done = about(config, "POST", name, "/redrive", _which(ids, everything)).json()
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(f"{counted(done['redriven'], 'message')} tried again", err=True)


@endpoint.command()
@click.argument("name")
@click.argument("ids", nargs=-1, type=click.IntRange(1))
@endpoint_options.EVERY
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@options.AS_JSON
@click.pass_obj
def discard(
    config: Config, *, name: str, ids: tuple[int, ...], everything: bool, yes: bool, as_json: bool
) -> None:
    r"""Try messages no more: some by the id that `undelivered` lists, or all that were given up.

    The messages stay stored. Those that are gone, deleted before their delivery, are left out of
    the list from then on.

    \b
    Examples:
      appliance endpoint discard erp 17
      appliance endpoint discard erp --all --yes
    """
    which = _which(ids, everything)
    if everything and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("would discard all that were given up; give --yes")
        click.confirm(f"Discard all that were given up for {name}?", abort=True, err=True)
    done = about(config, "POST", name, "/discard", which).json()
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(f"{counted(done['discarded'], 'message')} discarded", err=True)


@endpoint.command("rotate-secret")
@click.argument("name")
@endpoint_options.SECRET_FILE
@click.option(
    "--old-for", metavar="SPAN", help="For how long the one before signs too, such as 1d or 0s."
)
@options.AS_JSON
@click.pass_obj
def rotate_secret(
    config: Config, *, name: str, secret_file: str | None, old_for: str | None, as_json: bool
) -> None:
    r"""Sign with another secret, and print it. The one before signs too for a day.

    So a receiver can change to the new one in its own time. Where the old one is known to others,
    end it at once: --old-for 0s.

    \b
    Examples:
      appliance endpoint rotate-secret erp
      appliance endpoint rotate-secret erp --old-for 0s
      appliance endpoint rotate-secret erp --secret-file - < secret.txt
    """
    wish = {"old_for": old_for} if old_for else {}
    if secret_file is not None:
        wish["secret"] = read_secret(secret_file)
    made = about(config, "POST", name, "/rotate", wish).json()
    if as_json:
        click.echo(json.dumps(made))
        return
    if secret_file is None:
        click.echo(made["secret"])
    click.echo(f"The secret before it signs too until {made['old_until']}.", err=True)


def _print(shown: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps(shown) if as_json else endpoint_text.whole(shown))


def _which(ids: tuple[int, ...], everything: bool) -> dict[str, Any]:
    if bool(ids) == everything:
        raise click.UsageError("name messages by their ids, or give --all")
    return {"all": True} if everything else {"ids": list(ids)}
