"""Commands that start and operate everything: `run` and `ctl`."""

import os
import sys

import click

from appliance.config import Config
from appliance.errors import ClientError


@click.command()
@click.pass_obj
def run(config: Config) -> None:
    r"""Start everything under supervisord, in the foreground. Ctrl-C ends it.

    Exit status: 0 after a clean end, 3 when a program could not be kept running, 78 for a setting
    or a machine that can't work (see `appliance doctor`).

    \b
    Examples:
      appliance run
      APPLIANCE_DATA=/srv/inbox APPLIANCE_HTTP=0.0.0.0:80 appliance run
    """
    _check(config)
    from appliance.supervision import launcher

    sys.exit(launcher.run(config))


def _check(config: Config) -> None:
    """Run the doctor's checks of a start, or end with the status of what it refuses.

    In a child: this process becomes supervisord, and would carry for ever what they import.
    """
    child = os.fork()
    if not child:
        from appliance.doctor import checks
        from appliance.store import open_store

        checks.at_start(config, open_store(config), broker=True)  # what it warns of, `migrate` logs
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(status if status > 0 else 128 - status)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def ctl(config: Config, arguments: tuple[str, ...]) -> None:
    r"""supervisorctl, for the appliance that `run` started with the same data folder.

    \b
    Examples:
      appliance ctl status
      appliance ctl restart worker:*
      appliance ctl tail -f api
    """
    from supervisor.supervisorctl import main as supervisorctl

    from appliance.supervision import launcher

    path = config.supervisor_socket
    if not path.exists():
        raise ClientError(
            f"no supervisord at {path}; is the appliance running, with the same APPLIANCE_DATA?"
        )
    os.environ["APPLIANCE_RUN"] = str(config.run_folder)  # its configuration file refers to it
    supervisorctl(["--configuration", str(launcher.configuration_file()), *arguments])
