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
from appliance.errors import ApplianceError, ClientError, ConfigError, HostError

#: Exit statuses that differ, so that a supervisor or a script can tell what went wrong.
EXIT_ERROR: Final = 1
EXIT_UNREACHABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h
EXIT_CONFIG: Final = 78  # EX_CONFIG of sysexits.h

#: command -> (module that defines it, one line for --help)
_COMMANDS: Final = {
    "publish": ("client", "Send a message, or every line of a file, to a topic."),
    "tail": ("client", "Print a topic's messages as they are stored."),
    "status": ("client", "Show processes, broker, queue, store and disk."),
    "dead": ("dead", "See what could not be stored; send it again or discard it."),
    "drill": ("drill", "Kill a scratch appliance's processes under load, and count."),
    "verify": ("verify", "Check that all is there that was promised."),
    "token": ("settings", "Print the administrator's token."),
    "config": ("settings", "Show the settings in force and where each came from."),
    "doctor": ("doctor", "Check disk, database, broker, ports, clock; say what to do."),
    "backup": ("backup", "Copy the database, while it is in use or not."),
    "restore": ("backup", "Put a backup in the place of the database."),
    "run": ("run", "Start everything under supervisord, in the foreground."),
    "ctl": ("run", "supervisorctl, for the appliance that `run` started."),
    "broker": ("processes", "Process: our own RabbitMQ node."),
    "migrate": ("processes", "Process: bring the database to this program's schema."),
    "api": ("processes", "Process: the producer API."),
    "worker": ("processes", "Process: store what the queue holds."),
    "janitor": ("processes", "Process: keep the database small, make backups."),
    "listener": ("processes", "Process: supervisord's event listener."),
}


def _keep_layout(command: click.Command) -> click.Command:
    r"""Let click keep the lines after a `\b`; in our raw docstrings that is two characters."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_layout(inner)
    return command


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"appliance.cli.commands.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name} is not a command")
        return _keep_layout(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="queue-appliance", prog_name="appliance")
@click.pass_context
def _cli(ctx: click.Context) -> None:
    r"""A durable HTTP inbox: POST a message, find it as a row of a SQLite file.

    \b
    Examples:
      appliance run                             start everything, Ctrl-C ends it
      appliance publish orders 'two of those'   send one message
      appliance publish logs --file /var/log/dpkg.log
      appliance tail orders                     watch what is stored
    """
    ctx.obj = configuration.load(os.environ)


def main() -> None:
    """Run the command line; every error of ours ends it with one line and a status."""
    try:
        _keep_layout(_cli)
        _cli(prog_name="appliance")
    except (ConfigError, HostError) as error:
        _fail(error, EXIT_CONFIG)
    except ClientError as error:
        _fail(error, EXIT_UNREACHABLE)
    except ApplianceError as error:
        _fail(error, EXIT_ERROR)


def _fail(error: Exception, status: int) -> None:
    click.echo(f"appliance: {error}", err=True)
    sys.exit(status)
