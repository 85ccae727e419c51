"""The command `appliance` of a host where the appliance is installed as services.

It acts on the same settings and as the same user as the services do, whoever calls it:

- the settings are read from the files that the units read, in their order; the caller's
  environment wins;
- root steps down to the service's user before anything else is done: the services could not open a
  file that root had made in the data folder. `publish`, `inbox`, `schema` and `endpoint` alone
  keep root's rights, because they read the caller's files and write none; of the service they get
  nothing but the token.

Anyone else can use the commands that talk to the API, with APPLIANCE_TOKEN set.
"""

import os
import pwd
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

import click

from appliance import cli, credentials
from appliance import config as configuration
from appliance.errors import ApplianceError, ConfigError

#: In the order in which the units read them: the program's, then the administrator's.
_SETTINGS: Final = (
    Path(sys.prefix) / "share" / "host.env",
    Path("/etc/appliance/appliance.env"),
)
#: The user that the services run as; appliance.sysusers.conf declares it.
_USER: Final = "appliance"
#: Commands that read or write files that the caller names, and none of the service's.
_AS_THE_CALLER: Final = frozenset({"endpoint", "export", "inbox", "publish", "schema"})
#: Options of `export` with which it reads and writes the database itself.
_OF_A_MOVE: Final = frozenset({"--to", "--to-file", "--undo"})


def main() -> None:
    """Find the settings, step down, and go on as the usual command."""
    try:
        _prepare(sys.argv[1:], os.environ)
    except ApplianceError as error:
        click.echo(f"appliance: {error}", err=True)
        sys.exit(cli.EXIT_CONFIG)
    cli.main()


def _prepare(arguments: list[str], environ: MutableMapping[str, str]) -> None:
    for name, value in read_settings(_SETTINGS).items():
        twin = name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE"
        if twin not in environ:  # the caller's choice, in the other of the two ways to make it
            environ.setdefault(name, value)
    if os.geteuid() != 0:
        _refuse_who_may_not(arguments, environ)
        return
    user = _find_user()
    moves = arguments[:1] == ["export"] and _OF_A_MOVE & {a.partition("=")[0] for a in arguments}
    if _AS_THE_CALLER & set(arguments[:1]) and not moves:
        _take_token(user, environ)
        return
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.umask(0o077)
    environ["HOME"] = user.pw_dir
    if not os.access(".", os.X_OK):  # it would be in the way of whatever looks at it
        os.chdir("/")


def _refuse_who_may_not(arguments: list[str], environ: Mapping[str, str]) -> None:
    """Say what to do instead, before a command fails at a file that only the service can read."""
    words = {"-h", "--help", "--version"} & set(arguments) or "completion" in arguments[:1]
    harmless = not arguments or words or "_APPLIANCE_COMPLETE" in environ
    has_token = "APPLIANCE_TOKEN" in environ or "APPLIANCE_TOKEN_FILE" in environ
    if not harmless and not has_token and not os.access(_SETTINGS[-1], os.R_OK):
        raise ConfigError(
            "you can't read the settings and the token: use sudo, or set APPLIANCE_TOKEN"
        )


def _find_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_USER)
    except KeyError as error:
        raise ConfigError(
            f"there is no user {_USER!r} for the services to run as; make it with systemd-sysusers"
        ) from error


def _take_token(user: pwd.struct_passwd, environ: MutableMapping[str, str]) -> None:
    """Read the token as the service's user would, then be root again."""
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        environ["APPLIANCE_TOKEN"] = credentials.token(configuration.load(environ))
    finally:
        os.seteuid(0)
        os.setegid(0)
    environ.pop("APPLIANCE_TOKEN_FILE", None)


def read_settings(paths: tuple[Path, ...]) -> dict[str, str]:
    """Read environment files as systemd does: NAME=VALUE lines, comments, quotes around a value.

    A file that doesn't exist, or that the caller can't read, is left out. Raises ConfigError for a
    line of another form.
    """
    values: dict[str, str] = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, PermissionError):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and line.lstrip()[0] not in "#;":
                name, value = _parse(line.strip(), f"{path}, line {number}")
                values[name] = value
    return values


def _parse(line: str, where: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
        raise ConfigError(f"{where}: expected NAME=VALUE")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return name.strip(), value
