"""Our own RabbitMQ node, in the foreground, as the very process that is supervised.

`start` makes the node's files and then becomes the server: no wrapper, no epmd and no second
process, so a signal reaches the broker itself and a kill leaves nothing behind.
"""

import fcntl
import ipaddress
import os
import re
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import structlog

from appliance import credentials
from appliance.broker.node import files, process, relocated, synced
from appliance.broker.node.files import Layout, Limits
from appliance.config import Address, Config
from appliance.errors import NodeError, StoreError
from appliance.logs import journald
from appliance.machine import disk_space

#: Debian's folder. Not /usr/sbin/rabbitmq-server: that is a wrapper which changes the user.
_INSTALLED: Final = Path("/usr/lib/rabbitmq")

#: Files and sockets the node may have open. Where a host allows 1e9, Erlang's helper process
#: closes every one of them by number and the start takes minutes.
_OPEN_FILES: Final = 20_000

#: More cores than this don't make one queue faster, but cost memory for each.
_MAX_SCHEDULERS: Final = 2

#: Below the seconds after which a supervisor takes a start for a good one (8).
_LOCK_SECONDS: Final = 5.0

#: Files the node must be able to make to start, and seconds between two looks for room.
_START_INODES: Final = 100
_ROOM_PAUSE: Final = 1.0

#: A limit as high as this is how a version 1 control group says "none".
_UNLIMITED_BYTES: Final = 2**60


def stand_by(beat: Callable[[], None], pause: float) -> NoReturn:
    """Stand where our own node would be, while an outside broker is used, until SIGTERM.

    `beat` is called every `pause` seconds.
    """
    structlog.get_logger().info("an outside broker is used: no own node is started")
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        beat()
        time.sleep(pause)


def start(config: Config) -> NoReturn:
    """Become the RabbitMQ node, which tells systemd by itself that it is ready and alive.

    Raises NodeError, in words for people, for what would keep the node from starting.
    """
    log = structlog.get_logger()
    release, server = find_server(_INSTALLED)
    layout = Layout(config.data / "broker")
    os.umask(0o077)
    try:
        _wait_for_room(config)
        layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _lock(layout)
        check_upgrade(layout, release)
        if set_aside(layout):
            log.warning("the last start never became ready: the node's database is made anew")
        if relocated.follow(layout):
            log.info(
                "the data folder was moved: the queues are told where they are", to=str(layout.home)
            )
        listen, distribution = check_ports(config)
        _write(config, layout, release, listen)
    except OSError as error:
        raise NodeError(
            f"APPLIANCE_DATA: {layout.home} can't be used ({error.strerror}: {error.filename})"
        ) from error
    log.info("starting RabbitMQ", release=".".join(map(str, release)), address=str(listen))
    _become(
        server,
        layout,
        files.environment(
            layout,
            release=release,
            distribution=distribution,
            schedulers=min(len(os.sched_getaffinity(0)), _MAX_SCHEDULERS),
            log_level=config.log_level,
            outer=os.environ,
        ),
    )


def _wait_for_room(config: Config) -> None:
    """Wait until RabbitMQ has the room that it needs to start and recover.

    A node that fails again and again on a full disk would be given up, and everything with it;
    this way it comes back by itself.
    """
    told = False
    while lacks := _lacking(config):
        if not told:
            structlog.get_logger().error("waiting for room to start in", reason=lacks)
        told = True
        time.sleep(_ROOM_PAUSE)


def _lacking(config: Config) -> str:
    home = config.data / "broker"
    folder = home if home.exists() else config.data
    try:
        found = disk_space.disk(folder, "the broker's disk", files.DISK_FLOOR_BYTES, _START_INODES)
    except StoreError:
        return ""  # not there yet, or can't be used: what is tried next says it better
    return found.lacks


def check(config: Config) -> tuple[int, ...]:
    """Return the release that is installed, if it can read the data that is there.

    Raises NodeError otherwise. Nothing is touched.
    """
    release, _ = find_server(_INSTALLED)
    check_upgrade(Layout(config.data / "broker"), release)
    return release


def is_running(config: Config) -> bool:
    """Whether a node holds the data folder."""
    try:
        with Layout(config.data / "broker").lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write(config: Config, layout: Layout, release: tuple[int, ...], listen: Address) -> None:
    text = files.config_text(
        layout,
        release=release,
        listen=listen,
        limits=Limits(
            memory=files.memory_mark(memory_limit(), machine_memory()),
            disk_free=config.min_free_bytes,
        ),
        log_level=config.log_level,
        logs=_log_format(config),
    )
    password = credentials.broker_password(config)
    imported = files.definitions(password, config.queue_max_bytes, config.queue_max_envelopes)
    files.write_all(layout, text, imported)
    files.write_private(layout.version, ".".join(map(str, release)) + "\n")


def _log_format(config: Config) -> str:
    if config.log_format != "auto":
        return config.log_format
    if journald.connected():
        return "journal"
    return "text" if sys.stderr.isatty() else "json"


def find_server(installed: Path) -> tuple[tuple[int, ...], Path]:
    """Return release and start script of the RabbitMQ below `installed`.

    The release is read from a folder's name: asking the server would start an Erlang VM.
    """
    found = [
        (tuple(int(part) for part in match[1].split(".")), folder / "sbin" / "rabbitmq-server")
        for folder in installed.glob("lib/rabbitmq_server-*")
        if (match := re.fullmatch(r"rabbitmq_server-(\d+(?:\.\d+)+).*", folder.name))
    ]
    usable = [(release, server) for release, server in found if server.is_file()]
    if not usable:
        raise NodeError(
            "RabbitMQ is not installed; install it with: apt-get install rabbitmq-server"
        )
    return max(usable)


def memory_limit(
    membership: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the bytes our control group may use, or None where nothing limits them.

    Understands versions 1 and 2. The limit of every group above ours counts too.
    """
    groups: list[Path] = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for root, name in (
            (mounted, "memory.max"),
            (mounted / "unified", "memory.max"),
            (mounted / "memory", "memory.limit_in_bytes"),
        ):
            if controllers in ("", "memory"):
                group = root / path.lstrip("/")
                groups += [above / name for above in (group, *group.parents)]
    limits = [
        int(text)
        for file in set(groups)
        if file.is_relative_to(mounted) and (text := _read(file)).isdecimal()
    ]
    return min((limit for limit in limits if limit < _UNLIMITED_BYTES), default=None)


def machine_memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _resolve(address: Address) -> str:
    """Return the host as an IP address, which is what RabbitMQ's configuration takes."""
    try:
        return str(ipaddress.ip_address(address.host))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise NodeError(f"APPLIANCE_AMQP: {address.host} has no address ({error})") from error


def check_ports(config: Config) -> tuple[Address, int]:
    """Return where to listen, as an IP address, and the port for Erlang's own protocol.

    Raises NodeError where one of them is taken.
    """
    listen = Address(_resolve(config.amqp), config.amqp.port)
    distribution = files.distribution_port(listen.port)
    _check_free(listen, f"APPLIANCE_AMQP: {config.amqp} is taken")
    _check_free(
        Address("127.0.0.1", distribution),
        f"APPLIANCE_AMQP: port {distribution}, which belongs to {config.amqp}, is taken",
    )
    return listen, distribution


def _check_free(address: Address, taken: str) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen(1)
        except OSError as error:
            raise NodeError(
                f"{taken} ({error.strerror}); set it to another address, e.g. 127.0.0.1:5673"
            ) from error


def check_upgrade(layout: Layout, release: tuple[int, ...]) -> None:
    """Refuse a database that this release can't read, before it is touched."""
    text = _read(layout.version)
    if not text:
        return
    last = tuple(int(part) for part in text.split("."))
    if (last[0] == release[0] and last[:2] <= release[:2]) or (
        last[:2] == (3, 13) and release[:2] == (4, 0)
    ):
        return
    raise NodeError(
        f"APPLIANCE_DATA: {layout.home} was written by RabbitMQ {text}, which RabbitMQ "
        f"{'.'.join(map(str, release))} can't read; start the old one until its queue is empty, "
        "then move that folder away (the stored messages are not in it)"
    )


def set_aside(layout: Layout) -> bool:
    """Move away a database that was never whole on disk; True if there was one.

    The power failed, or the node was killed, before anything was accepted. RabbitMQ may find files
    empty and then never starts.
    """
    if not layout.database.exists() or synced.was_safe(layout.home):
        return False
    aside = layout.database.with_name(f"{layout.database.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    layout.database.rename(aside)
    return True


def _lock(layout: Layout) -> None:
    """Take the folder's lock for as long as this process, and what it becomes, lives.

    The remains of a node that was killed a moment ago may hold it a little longer.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise NodeError(
                    f"APPLIANCE_DATA: {layout.home} is in use by a RabbitMQ node that runs already"
                ) from error
            time.sleep(0.05)
        else:
            process.note(descriptor)
            return


def _become(server: Path, layout: Layout, environment: dict[str, str]) -> NoReturn:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > _OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))
    # Python ignores this signal, and what is ignored stays so in the program we become.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.chdir(layout.home)
    # The log goes to standard error like ours; only the banner goes to standard output.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.execve(server, [str(server)], environment)  # noqa: S606  # no shell is the point
