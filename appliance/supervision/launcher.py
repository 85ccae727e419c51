"""Starts everything: prepares folders, lock and token, then becomes supervisord.

A terminal, a container engine or a test starts and ends this process. It may be a
container's first process: supervisord reaps every child, and SIGTERM and SIGINT are answered from
the first line on (the kernel ignores them for a first process that has no handler).
"""

import contextlib
import ctypes
import fcntl
import os
import shlex
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from supervisor.supervisord import main as supervisord

import appliance
from appliance import credentials
from appliance.config import Config
from appliance.errors import ConfigError, FolderError, HostError, OccupiedError
from appliance.machine import allowance, files, locks
from appliance.supervision import addresses, forked_programs, log_files, ready
from appliance.supervision.fatal_mark import FatalMark
from appliance.supervision.forked_programs import ForkedPrograms
from appliance.supervision.output import Output

#: Status when a program was given up, so that a container engine sees a failure.
EXIT_FATAL: Final = 3
#: Longest path of a Unix socket (108 bytes with the final NUL), less the suffix ".PID" under which
#: supervisord makes it.
_SOCKET_PATH_BYTES: Final = 107 - len(".4194304")
#: Descriptors from here on stay open in the programs (`minfds` in supervisord.conf).
_FIRST_INHERITED_DESCRIPTOR: Final = 64
#: With these, the C library gives memory of large bodies back at once instead of keeping it:
#: variable, number of the same in mallopt(3), value.
_RETURNED_AT_ONCE: Final = (
    ("MALLOC_MMAP_THRESHOLD_", -3, 131072),
    ("MALLOC_ARENA_MAX", -8, 2),
)
#: Programs whose supervisord was killed end by themselves within the broker's stop time.
_ORPHANS_SECONDS: Final = 25.0


def configuration_file() -> Path:
    """Path of supervisord's configuration: in the checkout, else as installed on a host, or image.

    A host's comes before the image's: there it may belong to Debian's own supervisor. Raises
    ConfigError where there is none.
    """
    folders = (
        Path(appliance.__file__).parent.parent / "supervisor",
        Path(sys.prefix) / "share" / "supervisor",
        Path("/etc/supervisor"),
    )
    for folder in folders:
        path = folder / "supervisord.conf"
        if path.is_file():
            return path
    raise ConfigError(
        f"APPLIANCE_RUN: supervisord.conf is in none of {', '.join(map(str, folders))}"
    )


def run(config: Config, programs: ForkedPrograms) -> int:
    """Run everything until it is asked to end; return the exit status.

    `programs` are ours: supervisord starts them from its own memory.

    Raises ConfigError or HostError before anything is started where it can't work here.
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _end_now)
    signal.signal(signal.SIGINT, _end_now)
    os.umask(0o077)
    _check_path(config.run_folder)
    _make_folders(config)
    _lock(config)
    addresses.refuse_taken("APPLIANCE_HTTP", config.http)
    for setting, address in (("APPLIANCE_MQTT", config.mqtt), ("APPLIANCE_MQTTS", config.mqtts)):
        if address is not None:
            addresses.refuse_taken(setting, address)
    credentials.token(config)
    os.environ.update(environment(config))
    if allowance.is_small():
        _return_memory_at_once()
    FatalMark.path(config.run_folder).unlink(missing_ok=True)
    config.supervisor_socket.unlink(missing_ok=True)  # ours by the lock: nobody serves it
    with contextlib.suppress(OSError):  # a full disk: the command line has to be told the address
        files.write_private(config.address_file, f"{config.own_url}\n")
    print(_welcome(config), file=sys.stderr, flush=True)  # noqa: T201  # the log is on the other
    if os.getpid() != 1 or sys.stderr.isatty():
        # A container's log is one stream of JSON lines, in which the API says the same.
        ready.notice = ready.ReadyNotice(config, Output(2).write, began=began)
    forked_programs.programs = programs
    # Its first lines come before the plugin is loaded, which reports what can't be written.
    log_files.forgive(lambda _: None)
    supervisord(_arguments())
    config.address_file.unlink(missing_ok=True)
    mark = FatalMark.find(config.run_folder)
    if mark:
        print(  # noqa: T201
            f"appliance: {mark.program} was given up: {mark.reason}; its last lines are in "
            f"{config.run_folder}/log/{mark.program}.log",
            file=sys.stderr,
        )
        return EXIT_FATAL
    return 0


def environment(config: Config) -> dict[str, str]:
    """Return the variables that supervisord.conf uses and all programs must agree on."""
    variables = {
        "APPLIANCE_DATA": str(config.data),
        "APPLIANCE_RUN": str(config.run_folder),
        "APPLIANCE_API_PROCESSES": str(max(1, config.api_processes)),
        # supervisord can't reckon: the first one is a program of its own, so as to keep its name.
        "FURTHER_API_PROCESSES": str(max(1, config.api_processes) - 1),
        "APPLIANCE_WORKERS": str(config.workers),
        "APPLIANCE_HANDLER_PROCESSES": str(config.handler_processes if config.handlers else 0),
        "APPLIANCE_AMQP": str(addresses.choose_amqp(config)),
        # To each program its output is a pipe; only this process sees the terminal behind it.
        "APPLIANCE_LOG_FORMAT": config.log_format,
        "PATH": _path(os.environ),
    }
    if allowance.is_small():
        variables |= {name: str(value) for name, _, value in _RETURNED_AT_ONCE}
    if config.log_format == "auto":
        variables["APPLIANCE_LOG_FORMAT"] = "terminal" if sys.stdout.isatty() else "json"
    return variables


def _return_memory_at_once() -> None:
    """Set for this process, and those forked from it, what the variables set for a new one."""
    mallopt = ctypes.CDLL(None).mallopt
    for _, parameter, value in _RETURNED_AT_ONCE:
        mallopt(parameter, value)


def _path(environ: Mapping[str, str]) -> str:
    """Put the folder of our own commands first, so that `appliance` is this appliance."""
    return f"{sysconfig.get_path('scripts')}:{environ.get('PATH', os.defpath)}"


def _arguments() -> list[str]:
    arguments = ["--configuration", str(configuration_file())]
    if os.getuid() == 0:
        # Says that it is meant; without it supervisord calls it critical. The image isn't root.
        arguments += ["--user", "root"]
    return arguments


def _check_path(run_folder: Path) -> None:
    name = str(run_folder)
    if "%" in name:
        raise ConfigError(f"APPLIANCE_RUN: supervisord can't use a path with % in it ({name})")
    if len(os.fsencode(f"{name}/supervisor.sock")) > _SOCKET_PATH_BYTES:
        raise ConfigError(
            f"APPLIANCE_RUN: {name} is too long for a Unix socket in it; name a folder with a "
            f"shorter path, for example /tmp/appliance-{os.getuid()}"
        )


def _make_folders(config: Config) -> None:
    for name, folder in (
        ("APPLIANCE_DATA", config.data),
        ("APPLIANCE_RUN", config.run_folder),
        ("APPLIANCE_RUN", config.run_folder / "log"),
    ):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(f"{name}: {folder} can't be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise FolderError(
                f"{name}: {folder} can't be written to by user {os.getuid()}, which the "
                "appliance runs as"
            )


def _lock(config: Config) -> None:
    """Take the data folder for this process and its programs.

    The programs inherit the open file and so hold the lock as well: two brokers on one folder
    would destroy it. Raises OccupiedError where another `run` has the folder, HostError where it
    can't be locked.
    """
    path = config.lock_file
    try:
        opened = locks.open_file(path)
    except OSError as error:
        raise FolderError(f"APPLIANCE_DATA: {path} can't be made: {error.strerror}") from error
    descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD, _FIRST_INHERITED_DESCRIPTOR)
    os.close(opened)
    owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    try:
        locks.take(descriptor, patience=0.0 if _alive(owner) else _ORPHANS_SECONDS)
    except BlockingIOError as error:
        raise OccupiedError(
            f"APPLIANCE_DATA: {config.data} is in use by another `appliance run` (process "
            f"{owner or 'unknown'}); end that one first, or name another folder"
        ) from error
    except OSError as error:
        raise HostError(
            f"APPLIANCE_DATA: its file system can't lock files ({error.strerror}); use a local one"
        ) from error
    with contextlib.suppress(OSError):  # a full disk: the lock counts, the number is for people
        locks.write_pid(descriptor)


def _alive(owner: str) -> bool:
    if not owner.isdigit() or int(owner) == os.getpid():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end_now(*_: object) -> NoReturn:
    """End at a signal that comes before supervisord handles them: nothing runs yet."""
    raise SystemExit(0)


def _welcome(config: Config) -> str:
    where, token = _token_words(config)
    url = config.own_url
    return f"""\
Queue Appliance is starting; its data is in {config.data}
  address  {url}
  token    {where}
  try      curl -H "Authorization: Bearer {token}" -d hello {url}/v1/topics/test/messages
"""


def _token_words(config: Config) -> tuple[str, str]:
    """Return where the token is, in words, and as a shell's expression that gives the token."""
    if config.token:
        return "the one that you set", "$APPLIANCE_TOKEN"
    if os.getpid() == 1:  # a container's files are not at hand where its log is read
        ask = f"docker exec {socket.gethostname()} appliance token"
        return f"ask with: {ask}", f"$({ask})"
    path = credentials.token_path(config)
    return f"in {path}", f"$(cat {shlex.quote(str(path))})"
