"""The command line, and the composition root: only here are concrete objects put together.

A command's module is imported when the command is called, so that a worker doesn't carry Flask
and `appliance --help` answers at once.
"""

import importlib
import os
import sys
from typing import Final

import click

from appliance import config as configuration
from appliance.cli.options import Group
from appliance.errors import (
    ApplianceError,
    ClientError,
    ConfigError,
    HostError,
    NotRunningError,
    TokenRefusedError,
)
from appliance.machine import allowance

#: Exit statuses that differ, so that a supervisor or a script can tell the causes apart.
EXIT_ERROR: Final = 1
EXIT_UNREACHABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_TOKEN: Final = 77  # EX_NOPERM of sysexits.h
EXIT_CONFIG: Final = 78  # EX_CONFIG of sysexits.h

#: Section of --help -> command -> (module that defines it, one line for --help).
_SECTIONS: Final = {
    "Send and read": {
        "publish": ("publish", "Send a message, or every line of a file, to a topic."),
        "tail": ("tail", "Print a topic's messages as they are stored."),
        "topics": ("topics", "List the topics, with their messages and sizes."),
        "search": ("search", "Find messages by words, times, and what is in their JSON."),
        "show": ("show", "Show one message: its body, and how it came."),
        "export": ("export", "Write messages to a file: NDJSON, CSV or Parquet."),
        "delete": ("delete", "Delete messages for good, by id or by topic."),
        "delayed": ("delayed", "List messages that wait for their time; cancel them."),
        "open": ("open_console", "Print a link that opens the console, signed in."),
        "explore": ("explore", "Explore the database in a browser, with Datasette."),
        "dead": ("dead", "List dead letters; send them again or discard them."),
        "subscription": ("subscription", "Make subscriptions, from which consumers pull messages."),
        "receive": ("receive", "Receive a subscription's messages, and acknowledge them."),
        "schema": ("schema", "Say what a topic's messages must look like (JSON Schema)."),
        "inbox": ("inbox", "Make secret addresses for webhooks, forms and devices."),
        "endpoint": ("endpoint", "Send stored messages on to other systems, by POST."),
        "replay": ("replay", "Send stored messages again, to an endpoint or into a topic."),
    },
    "Run and look after": {
        "run": ("run", "Start everything under supervisord, in the foreground."),
        "ctl": ("ctl", "Control the processes that `run` started (supervisorctl)."),
        "status": ("status", "Show processes, broker, queue, store and disk."),
        "doctor": ("doctor", "Check disk, database, broker, ports and clock, with advice."),
        "handler": ("handler", "Make and try functions that change messages on their way in."),
        "door": ("door", "List the ways in: where, whether open, and the promises of each."),
        "verify": ("verify", "Check that no accepted message is missing."),
        "drill": ("drill", "Kill a scratch appliance's processes under load, and count."),
        "view": ("view", "Make an SQL view with a column for each key of a topic's JSON."),
        "index": ("index", "Index a value in a topic's JSON, so that searches for it are quick."),
        "backup": ("backup", "Copy the database, running or stopped."),
        "prove": ("prove", "Prove that a backup can be restored, by restoring it aside."),
        "restore": ("backup", "Replace the database of a stopped appliance by a backup."),
    },
    "Settings": {
        "token": ("token", "Print the administrator's token; make tokens with fewer rights."),
        "audit": ("audit", "List what administrators did."),
        "config": ("settings", "Show the settings in force, and the source of each."),
        "completion": ("completion", "Print a script that completes commands in your shell."),
    },
    "Processes (for supervisord and systemd)": {
        "broker": ("processes", "Run our own RabbitMQ node."),
        "migrate": ("processes", "Bring the database to this program's schema, and end."),
        "api": ("processes", "Run the HTTP API."),
        "worker": ("processes", "Store the messages in the queue."),
        "janitor": ("processes", "Keep the database small, make scheduled backups."),
        "deliver": ("processes", "Send stored messages on to the endpoints."),
        "handle": ("processes", "Run the functions of handlers."),
        "listener": ("processes", "Listen to supervisord's events."),
    },
}
#: command -> (module, one line for --help)
_COMMANDS: Final = {
    name: entry for section in _SECTIONS.values() for name, entry in section.items()
}
#: command -> its name in its module, for one that is a function of Python's
_OTHER_NAMES: Final = {"open": "open_console"}
#: Commands that only talk to the API.
_CLIENTS: Final = frozenset(
    {
        *("publish", "tail", "topics", "search", "show", "export", "delete", "dead", "inbox"),
        *("schema", "status", "token", "audit", "open", "delayed", "subscription", "receive"),
        *("endpoint", "door", "replay"),
    }
)


def _keep_layout(command: click.Command) -> click.Command:
    r"""Let click keep the lines after a `\b`; in our raw docstrings that is two characters."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_layout(inner)
    return command


class _Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"appliance.cli.commands.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, _OTHER_NAMES.get(cmd_name, cmd_name))
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return _keep_layout(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        width = max(map(len, _COMMANDS))
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{n:<{width}}", text) for n, (_, text) in commands.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="queue-appliance", prog_name="appliance")
@click.pass_context
def _cli(ctx: click.Context) -> None:
    r"""A durable HTTP inbox: POST a message, find it as a row of a SQLite file.

    With --json, a command prints nothing but JSON on standard output. Exit status: 0 done, 1 an
    error, 2 wrong usage, 69 the appliance is not reachable, 77 the token is refused, 78 a setting
    or the machine is not fit.

    \b
    Examples:
      appliance run                             start everything, Ctrl-C ends it
      appliance publish orders 'two of those'   send one message
      appliance publish logs --file /var/log/dpkg.log
      appliance tail orders                     watch what is stored
    """
    is_client = ctx.invoked_subcommand in _CLIENTS
    settings = configuration.load(os.environ, client=is_client)
    ctx.obj = settings if is_client else allowance.fit(settings)


def main() -> None:
    """Run the command line; every error of ours ends it with one line and a status."""
    try:
        _keep_layout(_cli)
        _cli(prog_name="appliance")
    except (ConfigError, HostError) as error:
        _fail(error, EXIT_CONFIG)
    except TokenRefusedError as error:
        _fail(error, EXIT_TOKEN)
    except (ClientError, NotRunningError) as error:
        _fail(error, EXIT_UNREACHABLE)
    except ApplianceError as error:
        _fail(error, EXIT_ERROR)


def _fail(error: Exception, status: int) -> None:
    click.echo(f"appliance: {error}", err=True)
    sys.exit(status)
