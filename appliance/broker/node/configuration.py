"""The files and the environment that our own RabbitMQ node is started with.

Everything the node reads or writes lies below one folder (`data/broker`), and its environment is
built from nothing: a RabbitMQ that the host runs already is neither read nor disturbed.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.broker.node import mqtt_plugin
from appliance.broker.node.layout import NODE_NAME, Layout
from appliance.broker.node.mqtt_plugin import MqttDoor
from appliance.config import Address
from appliance.machine.files import write_private

#: RabbitMQ's own lowest advice; below it a node can't write what it needs to recover.
DISK_FLOOR_BYTES: Final = 50_000_000

#: Of the memory the container may use, the part the broker takes before it holds publishers back;
#: the rest is for the API, the workers and the page cache.
_MEMORY_SHARE: Final = 0.4

#: An idle node uses 70 to 120 MiB: a lower mark would block publishers for ever. Where this much is
#: more than a share of the memory that leaves the other processes theirs, that share.
_MEMORY_FLOOR_BYTES: Final = 192 * 2**20
_MEMORY_FLOOR_SHARE: Final = 0.5

#: A quorum queue keeps its messages on disk; more memory than this would not make it faster.
_MEMORY_CAP_BYTES: Final = 2 * 2**30

#: Longer than any commit takes. A worker that hangs for longer loses its place to the standby.
_CONSUMER_TIMEOUT_MS: Final = 300_000

#: A frozen client is disconnected after twice this; the end of one that dies is noticed at once.
_HEARTBEAT_SECONDS: Final = 20

#: Small node: without these an idle one takes 115 instead of 85 MiB; the throughput is the same.
#: No busy waiting, tables for few processes, and allocators that give unused memory back.
_VM_FLAGS: Final = (
    "+sbwt none +sbwtdcpu none +sbwtdio none +P 65536 +t 1048576 +hms 233 +MHacul 0 +MBacul 0"
)

#: Maps the compiled code once, not twice; known to Erlang 26, the oldest that RabbitMQ 4 runs on.
_VM_FLAGS_4: Final = " +JMsingle true"

#: A quorum queue frees the disk of what was acknowledged only at a snapshot, by default after
#: thousands of messages however large (rabbitmq-server#13587): 2.8 GB for an empty queue that 700
#: messages of 4 MiB went through. With these it stayed below 500 MB, at the same throughput.
#: 4.x: a snapshot after 32 commands, at most one a second; no setting of rabbitmq.conf says so.
_SNAPSHOTS_4: Final = (
    "-rabbit quorum_snapshot_interval 32 quorum_min_checkpoint_interval 16 "
    "-eval persistent_term:put(quorum_queue_checkpoint_config,{1000,32,666667})."
)
#: 3.x: a snapshot after 256 commands, with no limit to how many a second.
_SNAPSHOTS_3: Final = "-rabbit quorum_snapshot_interval 256"

#: 3.x bounds a segment, the unit that is freed, by its messages only, and by default at 4096.
_SEGMENT_ENTRIES_3: Final = 128

#: Milliseconds between two looks of Erlang's at the certificate's file; by default two minutes.
_CERTIFICATE_MS: Final = 10_000

#: A node alone asks no other one whether it lives, by default ten times a second. RabbitMQ 3.x also
#: looks whether its virtual host was removed elsewhere, every 4 milliseconds for each second of
#: Erlang's tick time. That is the silence after which another node is taken for dead; a
#: `rabbitmqctl` is one, and must hear something every 15 seconds, as by default: 3600 / 240.
_ALONE: Final = (
    "-aten heartbeat_interval 10000 poll_interval 10000 "
    "-kernel net_ticktime 3600 net_tickintensity 240"
)

#: Our log level -> the broker's, which says at `info` each of its 100 steps and each connection.
BROKER_LOG_LEVELS: Final = {
    "debug": "debug",
    "info": "warning",
    "warning": "warning",
    "error": "error",
}

#: Erlang asks for the name `localhost` of the node, and for the one that belongs to 127.0.0.1. No
#: name server and no file of the machine need know them: a silent one would cost ten seconds each.
_NAMES: Final = '{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n'

#: A start takes a third of its time for reading which settings each of RabbitMQ's 40 plugins has.
#: Where none is on, it looks for plugins in a folder with this one only, the server itself, whose
#: files it finds by its name. Tried with RabbitMQ 3.10.
_SERVER: Final = "rabbit"

#: Variables that the node gets from our environment; any other could change how it behaves.
_PASSED_ON: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "TZ")


def memory_mark(limit: int | None, machine: int) -> int:
    """Return the bytes of memory at which the broker holds publishers back.

    `limit` is the control group's limit, where there is one, `machine` the machine's memory.
    """
    usable = min(limit or machine, machine)
    share = min(int(usable * _MEMORY_SHARE), _MEMORY_CAP_BYTES)
    floor = min(_MEMORY_FLOOR_BYTES, int(usable * _MEMORY_FLOOR_SHARE))
    return max(share, floor)


@dataclass(frozen=True)
class Limits:
    """The bounds of the node, in bytes."""

    memory: int
    disk_free: int
    #: one segment of the queue's log, which is kept in memory too; the default is 512 MiB
    segment: int
    #: largest AMQP message
    message: int


def config_text(
    layout: Layout,
    *,
    release: tuple[int, ...],
    listen: Address,
    limits: Limits,
    log_level: str,
    logs: str,
    encrypted: Address | None = None,
    mqtt: MqttDoor | None = None,
) -> str:
    """Return rabbitmq.conf for the RabbitMQ `release`. The addresses have an IP address as host.

    At `encrypted` it takes clients over TLS. `logs` is `text` or `json` for lines on standard
    error, or `journal` for systemd's journal.
    """
    lines = {
        "listeners.tcp.local": f"{listen.host}:{listen.port}",
        "definitions.import_backend": "local_filesystem",
        "definitions.local.path": layout.definitions,
        "vm_memory_high_watermark.absolute": limits.memory,
        "disk_free_limit.absolute": max(limits.disk_free, DISK_FLOOR_BYTES),
        "raft.wal_max_size_bytes": limits.segment,
        "max_message_size": limits.message,
        "consumer_timeout": _CONSUMER_TIMEOUT_MS,
        "cluster_formation.classic_config.nodes.1": NODE_NAME,  # else it warns that it is alone
        "heartbeat": _HEARTBEAT_SECONDS,
        "log.file": "false",
    } | _log_lines(logs, BROKER_LOG_LEVELS[log_level])
    if encrypted or (mqtt and mqtt.encrypted):
        lines |= _tls_lines(layout)
    if encrypted:
        lines["listeners.ssl.others"] = f"{encrypted.host}:{encrypted.port}"
    if release >= (4,):
        # Without it, anyone who reaches the port can log in without a password.
        lines["anonymous_login_user"] = "none"
    else:
        lines["raft.segment_max_entries"] = _SEGMENT_ENTRIES_3
    if mqtt is not None:
        lines |= mqtt_plugin.lines(mqtt, release)
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def _tls_lines(layout: Layout) -> dict[str, Any]:
    return {
        "ssl_options.certfile": layout.certificate,
        "ssl_options.keyfile": layout.certificate,
        "ssl_options.cacertfile": layout.certificate,  # those between it and its authority
        "ssl_options.versions.1": "tlsv1.3",
        "ssl_options.versions.2": "tlsv1.2",
        "ssl_options.verify": "verify_none",  # clients have passwords
        "ssl_options.fail_if_no_peer_cert": "false",
        "ssl_options.honor_cipher_order": "true",
        "ssl_options.client_renegotiation": "false",
        "ssl_options.secure_renegotiate": "true",
    }


def _log_lines(logs: str, level: str) -> dict[str, str]:
    if logs == "journal":
        return {
            "log.console": "false",
            "log.journald": "true",
            "log.journald.level": level,
            "log.journald.fields": 'SYSLOG_IDENTIFIER="appliance-broker" priority',
        }
    lines = {
        "log.console": "true",
        "log.console.stdio": "stderr",
        "log.console.level": level,
        "log.console.formatter": "json" if logs == "json" else "plaintext",
        "log.console.formatter.time_format": "rfc3339_T",
        # An escape sequence in a log ends `supervisorctl tail`.
        "log.console.use_colors": "off",
    }
    if logs == "json":
        # The names that our own lines have.
        lines["log.console.formatter.json.field_map"] = "time level msg:event domain:logger *:-"
    return lines


def environment(
    layout: Layout,
    *,
    release: tuple[int, ...],
    distribution: int,
    schedulers: int,
    log_level: str,
    outer: Mapping[str, str],
    plugins: Sequence[str] = (),
    modules: Path | None = None,
) -> dict[str, str]:
    """Return the whole environment of the node of RabbitMQ `release`, with these plugins.

    `distribution` is the port from `machine.ports.distribution_port`, `schedulers` how many cores
    to use, `outer` our own environment, of which only a few variables are passed on; in `modules`
    Erlang looks for a module first.
    """
    inner = {name: outer[name] for name in _PASSED_ON if outer.get(name)}
    if release < (4,) and not plugins and ":" not in str(layout.schemas):
        inner["RABBITMQ_PLUGINS_DIR"] = str(layout.schemas)
        if modules is not None:
            # Only here: else RabbitMQ looks for its plugins beside where its modules came from.
            inner["RABBITMQ_SERVER_CODE_PATH"] = str(modules)
    return inner | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(layout.home),
        # Erlang has allocators of its own; of the C library's, which a few threads use at the
        # start, one heap instead of one for each core takes 2 MiB less.
        "MALLOC_ARENA_MAX": "1",
        # The start script then becomes the VM instead of waiting for it: one process to supervise.
        "RUNNING_UNDER_SYSTEMD": "true",
        "ERL_INETRC": str(layout.names),
        "ERL_CRASH_DUMP_SECONDS": "0",  # none: a dump holds messages and secrets, and takes minutes
        "RABBITMQ_NODENAME": NODE_NAME,
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # else /etc/rabbitmq/rabbitmq-env.conf
        "RABBITMQ_CONFIG_FILE": str(layout.config),
        "RABBITMQ_CONFIG_FILES": str(layout.home / "conf.d"),  # not there; else /etc's conf.d
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(layout.home / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(layout.plugins),
        "RABBITMQ_MNESIA_BASE": str(layout.database),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(layout.home / "generated"),
        "RABBITMQ_SCHEMA_DIR": str(layout.home / "schema"),
        "RABBITMQ_PID_FILE": str(layout.home / "pid"),
        "RABBITMQ_LOG_BASE": str(layout.home / "log"),
        "RABBITMQ_LOG": BROKER_LOG_LEVELS[log_level],  # also before rabbitmq.conf is read
        "RABBITMQ_UPGRADE_LOG": "-stderr",  # else a file, whatever rabbitmq.conf says
        "RABBITMQ_DIST_PORT": str(distribution),
        # A minute after the node RabbitMQ starts another VM, whose only work is to start an epmd,
        # which would stay behind: that VM heeds this. An epmd that came all the same would be for
        # this machine only.
        "ERL_ZFLAGS": "-start_epmd false",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ERL_ARGS": (
            f"+S {schedulers}:{schedulers} +SDcpu {schedulers}:{schedulers} {_VM_FLAGS}"
            f"{_VM_FLAGS_4 if release >= (4,) else ''}"
        ),
        # No epmd, a daemon that would stay behind and listen: the port is agreed on instead.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            f"-sname {NODE_NAME} -start_epmd false -erl_epmd_port {distribution} "
            "-kernel inet_dist_use_interface {127,0,0,1} "
            f"inet_dist_listen_min {distribution} inet_dist_listen_max {distribution} "
            # Three helper processes of Erlang's; RabbitMQ watches memory and disk by itself.
            "-os_mon start_cpu_sup false start_disksup false start_memsup false "
            f"-ssl ssl_pem_cache_clean {_CERTIFICATE_MS} {_ALONE} "
            f"{_SNAPSHOTS_4 if release >= (4,) else _SNAPSHOTS_3}"
        ),
    }


def write_all(
    layout: Layout, config: str, imported: Mapping[str, Any], plugins: Sequence[str] = ()
) -> None:
    """Write the node's files. Raises OSError where that can't be done."""
    layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    layout.home.chmod(0o700)
    (layout.schemas / _SERVER).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not layout.cookie.exists():
        write_private(layout.cookie, secrets.token_hex(32), 0o400)
    write_private(layout.plugins, f"[{','.join(plugins)}].\n")
    write_private(layout.names, _NAMES)
    write_private(layout.definitions, json.dumps(imported, indent=1) + "\n")
    write_private(layout.config, config)
