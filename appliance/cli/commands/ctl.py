"""The command `ctl`."""

import os
from collections.abc import Sequence
from typing import Final

import click

from appliance.cli.options import did_you_mean
from appliance.config import Config
from appliance.errors import NotRunningError

#: supervisorctl's actions that take names of programs.
_ACTIONS: Final = frozenset(
    {"start", "stop", "restart", "signal", "status", "tail", "clear", "pid"}
)

#: Arguments of theirs that are no names.
_WORDS: Final = frozenset({"all", "stdout", "stderr"})


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def ctl(config: Config, arguments: tuple[str, ...]) -> None:
    r"""Control the processes that `run` started on the same data folder, with supervisorctl.

    Exit status: supervisorctl's, 2 for a program that there is not, 69 where no appliance runs.

    \b
    Examples:
      appliance ctl status
      appliance ctl restart 'worker:*'
      appliance ctl tail -f api
    """
    from supervisor.supervisorctl import main as supervisorctl

    from appliance.supervision import launcher, supervisord

    path = config.supervisor_socket
    if not path.exists():
        raise NotRunningError(
            f"no supervisord at {path}; is the appliance running, with the same APPLIANCE_DATA?"
        )
    if arguments and arguments[0] in _ACTIONS:
        check_names(arguments[1:], [state.name for state in supervisord.read(config) or []])
    os.environ["APPLIANCE_RUN"] = str(config.run_folder)  # its configuration file refers to it
    supervisorctl(["--configuration", str(launcher.configuration_file()), *arguments])


def check_names(arguments: Sequence[str], programs: Sequence[str]) -> None:
    """Raise UsageError for the group of several programs, and for a misspelt program.

    `programs` are supervisord's names: `api`, or `worker:worker_0` in a group of several.
    """
    groups = {name.partition(":")[0] for name in programs if ":" in name}
    short = {name.partition(":")[2]: name for name in programs if ":" in name}
    # Each program is in a group, be it alone there: `api:*` is right however many there are.
    names = {*programs, *(f"{name.partition(':')[0]}:*" for name in programs), *_WORDS}
    for argument in arguments:
        if argument in names or argument.startswith("-"):
            continue
        if argument in groups:
            hint = f" is a group of programs; did you mean '{argument}:*'?"
        elif argument in short:
            hint = f" is no program; did you mean {short[argument]!r}?"
        else:
            near = did_you_mean(argument, programs)
            hint = f" is no program{near}" if near else ""
        if hint:
            raise click.UsageError(f"{argument!r}{hint}")
