"""Starts our own RabbitMQ node in the foreground, as the very process that is supervised.

`start` makes the node's files and then becomes the server: there is no wrapper and no second
process, so a signal reaches the broker itself and a kill leaves nothing behind.
"""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog

from appliance import credentials
from appliance.broker.node import (
    certificate,
    configuration,
    definitions,
    log_check,
    log_copies,
    modules,
    mqtt_plugin,
    queue_files,
    queue_snapshots,
    readable,
    relocated,
    segment_check,
    synced,
    users,
)
from appliance.broker.node.configuration import Limits
from appliance.broker.node.layout import Layout
from appliance.broker.node.release import check_upgrade, find_server, text_of
from appliance.config import PREFIX, Address, Config
from appliance.errors import NodeError, StoreError
from appliance.logs import journald
from appliance.machine import allowance, disk_space, locks, memory, place, ports
from appliance.machine.complaint import Complaint
from appliance.machine.files import write_private

#: Files and sockets the node may have open. Where a host allows 1e9, Erlang's helper process
#: closes every one of them by number and the start takes minutes.
_OPEN_FILES: Final = 20_000

#: More cores than this don't make one queue faster, but cost memory for each.
_MAX_SCHEDULERS: Final = 2

#: Seconds to wait for the folder's lock; fewer than the 8 after which a supervisor takes a start
#: for a good one.
_LOCK_SECONDS: Final = 5.0

#: Files that the node must be able to make, and seconds between two looks at the disk.
_START_INODES: Final = 100
_DISK_PAUSE: Final = 1.0


_log: Any = structlog.get_logger(__name__)


def stand_by(beat: Callable[[], None], pause: float) -> NoReturn:
    """Take the place of our own node while an outside broker is used; end on SIGTERM.

    `beat` is called every `pause` seconds.
    """
    _log.info("outside broker in use")
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        beat()
        time.sleep(pause)


def start(config: Config) -> NoReturn:
    """Become the RabbitMQ node, which tells systemd by itself that it is ready and alive.

    Raises NodeError, in words for people, where the node could not start.
    """
    release, server = find_server()
    layout = Layout(config.broker_home)
    os.umask(0o077)
    try:
        _wait_for_space(config)
        _wait_for_reads(layout)
        layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if trouble := place.problem(config):
            raise NodeError(f"APPLIANCE_DATA: {trouble.found}; {trouble.advice}")
        _lock(layout)
        place.name(config)
        check_upgrade(layout, release)
        if set_aside(layout):
            _log.warning("broker database recreated", reason="the last start never became ready")
        if mended := queue_files.mend(layout):
            _log.warning("broker queue mended", queues=mended, reason="its file was not whole")
        for file in (*log_check.mend(layout), *segment_check.mend(layout)):
            _log.error(
                "broker log mended",
                log=file.name,
                corrected=file.corrected,
                replaced=file.replaced,
                kept=str(file.kept),
                advice="appliance verify says what is missing",
            )
        if mended := queue_snapshots.mend(layout):
            _log.warning("broker queue mended", queues=mended, reason="its snapshot was gone")
        if put_back := log_copies.mend(layout):
            _log.error(
                "broker entries put back",
                queues=put_back,
                reason="RabbitMQ had removed them from its log, and its disk had refused them",
            )
        if relocated.follow(layout):
            _log.info("broker data relocated", path=str(layout.home))
        listen, distribution = check_ports(config)
        mqtt = mqtt_plugin.door(config, release)
        _write(config, layout, release, listen, mqtt)
    except OSError as error:
        raise NodeError(
            f"APPLIANCE_DATA: {layout.home} can't be used ({error.strerror}: {error.filename})"
        ) from error
    _log.info("broker starting", release=text_of(release), address=str(listen))
    _become(
        server,
        layout,
        configuration.environment(
            layout,
            release=release,
            distribution=distribution,
            schedulers=min(len(os.sched_getaffinity(0)), _MAX_SCHEDULERS),
            log_level=config.log_level,
            outer=os.environ,
            plugins=_plugins(mqtt),
            modules=_modules(config, release, server, mqtt),
        ),
    )


def _wait_for_space(config: Config) -> None:
    """Wait until the disk has the room that RabbitMQ needs to start and recover.

    A node that fails again and again on a full disk would be given up, and the appliance with it;
    a node that waits comes back by itself.
    """
    complaint = Complaint(_log, "broker waiting for space", "broker has space again", level="error")
    while lacks := _lacking(config):
        complaint.fails(reason=lacks)
        time.sleep(_DISK_PAUSE)
    complaint.works()


def _wait_for_reads(layout: Layout) -> None:
    """Wait until the disk gives all that is in the node's files."""
    complaint = Complaint(
        _log, "broker waiting for its disk", "broker disk works again", level="error"
    )
    while trouble := readable.find_unreadable(layout.home):
        complaint.fails(reason=trouble)
        time.sleep(_DISK_PAUSE)
    complaint.works()


def _lacking(config: Config) -> str:
    home = config.broker_home
    folder = home if home.exists() else config.data
    try:
        return disk_space.disk(
            folder, "the broker's disk", configuration.DISK_FLOOR_BYTES, _START_INODES
        ).lacks
    except StoreError:
        return ""  # not there yet, or can't be used: the next step says why


def is_running(config: Config) -> bool:
    """Whether a node runs on the data folder."""
    try:
        return locks.is_held(Layout(config.broker_home).lock)
    except OSError:
        return False


def _write(
    config: Config,
    layout: Layout,
    release: tuple[int, ...],
    listen: Address,
    mqtt: mqtt_plugin.MqttDoor | None,
) -> None:
    allowed = allowance.allowance(config)
    text = configuration.config_text(
        layout,
        release=release,
        listen=listen,
        limits=Limits(
            memory=configuration.memory_mark(memory.limit(), memory.total()),
            disk_free=config.min_free_bytes,
            segment=allowed.segment,
            message=allowed.amqp_message,
        ),
        log_level=config.log_level,
        logs=_log_format(config),
        encrypted=resolved("AMQPS", config.amqps) if config.amqps else None,
        mqtt=mqtt,
    )
    certificate.write(config)
    known = users.read(layout.home)
    drained = [each.queue for each in config.drain]
    drained += [queue for user in known for queue in user.queues]
    password = credentials.broker_password(config)
    imported = definitions.definitions(
        password,
        config.queue_max_bytes,
        config.queue_max_envelopes,
        users.imported(known),
        list(dict.fromkeys(drained)),
        # Not before the queue is there: without it messages would be acknowledged and gone.
        mqtt=mqtt is not None and (layout.home / synced.QUEUE).exists(),
    )
    configuration.write_all(layout, text, imported, _plugins(mqtt))
    write_private(layout.version, f"{text_of(release)}\n")


def _plugins(mqtt: mqtt_plugin.MqttDoor | None) -> list[str]:
    return [] if mqtt is None else [mqtt_plugin.PLUGIN]


def _modules(
    config: Config,
    release: tuple[int, ...],
    server: Path,
    mqtt: mqtt_plugin.MqttDoor | None,
) -> Path | None:
    if release >= (4,) or _plugins(mqtt):
        return None
    return modules.gathered(config.run_folder, server)


def _log_format(config: Config) -> str:
    if config.log_format != "auto":
        return config.log_format
    if journald.connected():
        return "journal"
    return "text" if sys.stderr.isatty() else "json"


def check_ports(config: Config) -> tuple[Address, int]:
    """Return where to listen, as an IP address, and the port for Erlang's own protocol.

    Raises NodeError where one of them is taken.
    """
    listen = resolved("AMQP", config.amqp)
    distribution = ports.distribution(listen)
    _refuse_taken("AMQP", listen, str(config.amqp))
    second = f"port {distribution.port}, which belongs to {config.amqp},"
    _refuse_taken("AMQP", distribution, second)
    if config.amqps:
        _refuse_taken("AMQPS", resolved("AMQPS", config.amqps), str(config.amqps))
    return listen, distribution.port


def resolved(setting: str, address: Address) -> Address:
    """Return a setting's address with an IP address as host. Raises NodeError."""
    try:
        return ports.resolve(address)
    except OSError as error:
        raise NodeError(f"{PREFIX}{setting}: {address.host} has no address ({error})") from error


def _refuse_taken(setting: str, address: Address, subject: str) -> None:
    if problem := ports.problem(address):
        raise NodeError(
            f"{PREFIX}{setting}: {subject} is taken ({problem}); "
            f"set it to another address, e.g. {Address(address.host, address.port + 1)}"
        )


def set_aside(layout: Layout) -> bool:
    """Move away a database that was never whole on disk; return whether there was one.

    The power failed, or the node was killed, before anything was accepted. RabbitMQ can find some
    files empty, and then never starts.
    """
    if not layout.database.exists() or synced.was_safe(layout.home):
        return False
    aside = layout.database.with_name(f"{layout.database.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    layout.database.rename(aside)
    return True


def _lock(layout: Layout) -> None:
    """Take the folder's lock for as long as this process, and the program it becomes, lives.

    The remains of a node that was killed a moment ago may hold the lock a little longer.
    """
    descriptor = locks.open_file(layout.lock)
    os.set_inheritable(descriptor, True)
    try:
        locks.take(descriptor, patience=_LOCK_SECONDS)
    except BlockingIOError as error:
        raise NodeError(
            f"APPLIANCE_DATA: {layout.home} is in use by a RabbitMQ node that runs already"
        ) from error
    locks.write_pid(descriptor)


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
