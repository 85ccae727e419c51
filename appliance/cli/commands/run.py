"""The command `run`."""

import os
import sys

import click

from appliance.config import Config


@click.command()
@click.pass_obj
def run(config: Config) -> None:
    r"""Start everything under supervisord, in the foreground. Ctrl-C ends it.

    It prints `Ready after N s.` when messages can be sent. Exit status: 0 after a clean end, 3
    when a program could not be kept running, 78 where a setting is wrong, an address or the folder
    is in use, or the machine is not fit (see `appliance doctor`).

    \b
    Examples:
      appliance run
      APPLIANCE_DATA=/srv/inbox APPLIANCE_HTTP=0.0.0.0:80 appliance run
    """
    child = _start_check(config)
    # Meanwhile, for it takes as long as the checks:
    from appliance.cli import main, programs
    from appliance.supervision import launcher
    from appliance.supervision.forked_programs import ForkedPrograms

    _end_check(child)
    sys.exit(launcher.run(config, ForkedPrograms(lambda: programs.load(config), main)))


def _start_check(config: Config) -> int:
    """Run the doctor's checks of a start in a child; return its process id.

    In a child, because this process becomes supervisord and would keep their imports for ever.
    """
    child = os.fork()
    if not child:
        from appliance.doctor import checks
        from appliance.store import open_store

        checks.at_start(config, open_store(config), broker=True)  # `migrate` logs the warnings
        sys.exit()
    return child


def _end_check(child: int) -> None:
    """Wait for the checks; end with the status of the error where one failed."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(status if status > 0 else 128 - status)
