"""Every setting once: its name, default, check and help.

A setting is read from the environment variable `APPLIANCE_<NAME>`. Each secret has a twin
`APPLIANCE_<NAME>_FILE` that names a file to read it from; both at once is an error. The settings'
page of the docs, the shipped environment file and `appliance config` are all made from, or checked
against, the fields of `Config`.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from appliance.config import parsers
from appliance.config.parsers import Address, Network, PublicUrl
from appliance.errors import ConfigError
from appliance.model.drains import DrainedQueue, parse_drains
from appliance.model.expectations import Expectations, parse_expectations
from appliance.model.handler_rules import HandlerRules, parse_handler_rules
from appliance.model.retention import Rules, parse_rules

PREFIX = "APPLIANCE_"
#: Numbers of shards that can be set.
SHARD_NUMBERS = (1, 2, 4, 8, 16)


def _setting(default: str, parse: Callable[[str], Any], text: str, *, secret: bool = False) -> Any:
    return field(metadata={"default": default, "parse": parse, "help": text, "secret": secret})


@dataclass(frozen=True)
class Config:
    """The settings in force. Sizes are in bytes, times in seconds."""

    data: Path = _setting(
        "./var", parsers.path, "Folder for the database, the broker's data and the secrets"
    )
    run: Path | None = _setting(
        "", parsers.optional_path,
        "Folder for the processes' sockets and logs; empty: the folder run in APPLIANCE_DATA",
    )  # fmt: skip
    http: Address = _setting(
        "127.0.0.1:8080", parsers.address, "Address that the API listens on, HOST:PORT"
    )
    tls_cert: Path | None = _setting(
        "", parsers.optional_path,
        "PEM file with the certificate, and those between it and its authority, to serve HTTPS; "
        "empty: HTTP",
    )  # fmt: skip
    tls_key: Path | None = _setting(
        "", parsers.optional_path, "PEM file with the key of the certificate"
    )
    public_url: PublicUrl | None = _setting(
        "", parsers.public_url,
        "Address under which clients reach the API, for example https://example.com/inbox; empty: "
        "as each request says it",
    )  # fmt: skip
    trusted_proxies: tuple[Network, ...] = _setting(
        "", parsers.networks,
        "Proxies whose X-Forwarded-For and the like are believed: addresses or networks, separated "
        "by commas",
    )  # fmt: skip
    token: str = _setting(
        "", parsers.token,
        "Administrator's token; empty: made at the first start and kept in APPLIANCE_DATA/token",
        secret=True,
    )  # fmt: skip
    amqp: Address = _setting(
        "127.0.0.1:5672", parsers.address, "Address that our own broker listens on, HOST:PORT"
    )
    amqps: Address | None = _setting(
        "", parsers.optional_address,
        "Address at which our own broker takes AMQP clients over TLS, HOST:PORT; empty: none",
    )  # fmt: skip
    broker_tls_cert: Path | None = _setting(
        "", parsers.optional_path,
        "PEM file with the certificate, and those between it and its authority, of our own "
        "broker; empty: those of APPLIANCE_TLS_CERT",
    )  # fmt: skip
    broker_tls_key: Path | None = _setting(
        "", parsers.optional_path,
        "PEM file with the key of the broker's certificate; empty: that of APPLIANCE_TLS_KEY",
    )  # fmt: skip
    mqtt: Address | None = _setting(
        "off", parsers.optional_address,
        "Address that our own broker listens on for MQTT, HOST:PORT, for example 127.0.0.1:1883; "
        "off: no MQTT",
    )  # fmt: skip
    mqtts: Address | None = _setting(
        "off", parsers.optional_address,
        "Address at which our own broker takes MQTT clients over TLS, HOST:PORT; off: none",
    )  # fmt: skip
    broker_url: str = _setting(
        "", parsers.urls("amqp", "amqps"),
        "URL of a broker to use instead of our own, amqp:// or amqps://; of a cluster several, "
        "separated by commas",
        secret=True,
    )  # fmt: skip
    broker_users: tuple[str, ...] = _setting(
        "", parsers.names,
        "Users of that other broker whose envelopes are the appliance's own, separated by commas; "
        "empty: those of every user",
    )  # fmt: skip
    database_url: str = _setting(
        "", parsers.database_url,
        "URL of a PostgreSQL database to store messages in, in place of the SQLite file: "
        "postgresql://USER:PASSWORD@HOST[,HOST]/DATABASE",
        secret=True,
    )  # fmt: skip
    database_read_url: str = _setting(
        "", parsers.database_url,
        "URL of copies of that PostgreSQL database, from which messages are read; empty: they are "
        "read where they are written",
        secret=True,
    )  # fmt: skip
    database_synchronous_copies: int = _setting(
        "0", parsers.whole(0, 10),
        "Number of synchronous standbys of that PostgreSQL database that must have a message "
        "before it is acknowledged to the queue; with fewer, messages wait in the queue",
    )  # fmt: skip
    drain: tuple[DrainedQueue, ...] = _setting(
        "", parse_drains,
        "Queues of the broker, made by others, whose messages are taken in, separated by commas; "
        "QUEUE=TOPIC for another topic than the queue's name",
    )  # fmt: skip
    api_processes: int = _setting(
        "0", parsers.whole(0, 16),
        "Number of API processes, which share the address; 0: one for each three cores, from 1 to "
        "3",
    )  # fmt: skip
    workers: int = _setting(
        "2", parsers.whole(1, 16), "Number of workers; one is active, the others stand by"
    )
    shards: int = _setting(
        "1", parsers.one_of(*SHARD_NUMBERS),
        "Number of queues in a broker of your own that share the topics, each stored by a worker "
        "of its own; 1, 2, 4, 8 or 16",
    )  # fmt: skip
    max_message_bytes: int = _setting(
        "1MiB", parsers.size(1, 32 * 2**20), "Largest size of one message"
    )
    max_request_bytes: int = _setting(
        "8MiB", parsers.size(1, 32 * 2**20), "Largest size of one request"
    )
    max_batch_messages: int = _setting(
        "100000", parsers.whole(1, 1_000_000), "Largest number of messages in one request"
    )
    map_topics: bool = _setting(
        "off", parsers.switch,
        "Whether other names of topics are mapped to valid ones, for example Home/Kitchen to "
        "home.kitchen: on or off",
    )  # fmt: skip
    max_bodies_bytes: int = _setting(
        "64MiB", parsers.size(2**20, 2**40),
        "Largest size of all bodies under way together; above it, requests are answered 503",
    )  # fmt: skip
    max_streams: int = _setting(
        "256", parsers.whole(1, 4000),
        "Largest number of streams open at once; above it, requests for one are answered 503",
    )  # fmt: skip
    publish_timeout: float = _setting(
        "5", parsers.seconds(0.1, 300),
        "How long to wait for the broker's confirmation before answering 503, in seconds",
    )  # fmt: skip
    queue_max_bytes: int = _setting(
        "1GiB", parsers.size(2**20, 2**40),
        "Largest size of the queue; above it, requests are answered 503 until it drains",
    )  # fmt: skip
    queue_max_envelopes: int = _setting(
        "1000000", parsers.whole(100, 100_000_000),
        "Largest number of envelopes in the queue (an envelope is one request, or several small "
        "ones); above it, requests are answered 503",
    )  # fmt: skip
    quarantine_bytes: int = _setting(
        "64MiB", parsers.size(2**20, 2**40),
        "Largest size of the quarantine; above it, the oldest letters of whoever fills it are "
        "deleted",
    )  # fmt: skip
    quarantine_rate: int = _setting(
        "600", parsers.whole(1, 1_000_000),
        "Letters that one inbox address or topic can put into the quarantine in a minute; above "
        "it, messages are refused",
    )  # fmt: skip
    quarantine_age: int = _setting(
        "30d", parsers.span(60, 3660 * 86400),
        "How long a letter stays in the quarantine, for example 30d; off: until it is pushed out",
    )  # fmt: skip
    search_index: bool = _setting(
        "on", parsers.switch,
        "Keep a full-text index of the messages, in a file beside the database; off: searches read "
        "the messages themselves",
    )  # fmt: skip
    min_free_bytes: int = _setting(
        "256MiB", parsers.size(0, 2**50),
        "Free space to keep on the data's disk; below it, requests are answered 503",
    )  # fmt: skip
    hang_timeout: float = _setting(
        "30", parsers.seconds(5, 3600),
        "How long a process can hang before it is restarted, in seconds",
    )  # fmt: skip
    retention: Rules = _setting(
        "", parse_rules,
        "Rules for deleting old messages, by topic, for example "
        "logs.*: age=7d rows=1000000; *: bytes=10GiB; empty: keep everything",
    )  # fmt: skip
    expect: Expectations = _setting(
        "", parse_expectations,
        "How often a message of a topic must come, or an alert is raised, for example "
        "orders: every=5m; till-*: every=1h",
    )  # fmt: skip
    canary_every: int = _setting(
        "off", parsers.span(10, 86400),
        "Time between two messages of the appliance's own, sent to its public address to see that "
        "they become rows, for example 1m",
    )  # fmt: skip
    alert_url: str = _setting(
        "", parsers.webhook_url,
        "URL of a webhook that is told of alerts, http:// or https://",
        secret=True,
    )  # fmt: skip
    deliver_allow: tuple[Network, ...] = _setting(
        "", parsers.networks,
        "Private networks that deliveries may go to, for example 10.0.0.0/8, 127.0.0.1; empty: "
        "public addresses only",
    )  # fmt: skip
    deliveries_kept: int = _setting(
        "100000", parsers.whole(1000, 10_000_000),
        "Number of attempts to deliver that are kept to be looked at; older ones are deleted",
    )  # fmt: skip
    deliveries_age: int = _setting(
        "30d", parsers.span(60, 3660 * 86400),
        "How long an attempt to deliver is kept at most, for example 30d",
    )  # fmt: skip
    handlers: HandlerRules = _setting(
        "", parse_handler_rules,
        "Functions that get the messages of topics before they become rows, for example "
        "orders=shop:check, logs.*=appliance.split_handler:split; empty: none",
    )  # fmt: skip
    handler_folder: Path | None = _setting(
        "", parsers.optional_path,
        "Folder with the Python modules of these functions; empty: the folder handlers in "
        "APPLIANCE_DATA",
    )  # fmt: skip
    handler_processes: int = _setting(
        "2", parsers.whole(0, 64),
        "Number of processes that run these functions under supervisord, where there are any",
    )  # fmt: skip
    handler_timeout: float = _setting(
        "10", parsers.seconds(0.1, 3600),
        "How long a function can take for one message before it is killed, in seconds",
    )  # fmt: skip
    handler_memory: int = _setting(
        "512MiB", parsers.size(64 * 2**20, 2**40),
        "Address space that a process with such a function can have",
    )  # fmt: skip
    handler_attempts: int = _setting(
        "3", parsers.whole(1, 100),
        "How often a function gets a message with which it fails before that becomes a dead letter",
    )  # fmt: skip
    handled_age: int = _setting(
        "30d", parsers.span(3600, 3660 * 86400),
        "How long it is remembered that a message was handled, so that it is not handled again "
        "where its sender repeats it, for example 30d; off: for ever",
    )  # fmt: skip
    backups: Path | None = _setting(
        "", parsers.optional_path,
        "Folder for backups, best on another disk; empty: the folder backups in APPLIANCE_DATA",
    )  # fmt: skip
    backup_every: int = _setting(
        "off", parsers.span(60, 366 * 86400), "Time between scheduled backups, for example 24h"
    )
    backup_keep: int = _setting(
        "7", parsers.whole(1, 10_000), "Number of scheduled backups to keep; older ones are deleted"
    )
    backup_prove_every: int = _setting(
        "7d", parsers.span(60, 366 * 86400),
        "Time between two proofs that the newest backup can be restored, for example 7d; off: none",
    )  # fmt: skip
    url: str = _setting(
        "", parsers.http_url,
        "URL of the API that the command line talks to; empty: the appliance on this machine",
    )  # fmt: skip
    log_level: str = _setting(
        "info", parsers.choice("debug", "info", "warning", "error"), "Minimum log level"
    )
    log_format: str = _setting(
        "auto", parsers.choice("auto", "json", "text", "terminal"),
        "Log format: json, text, terminal (short lines); auto: terminal on a terminal, else json",
    )  # fmt: skip
    #: name of a setting's variable -> "default", "environment" or "file PATH"
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    #: name of a setting's variable -> its text as it was written
    texts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def broker_urls(self) -> list[str]:
        """URLs of an outside broker; empty where our own is used."""
        return parsers.split_urls(self.broker_url)

    @property
    def takes_mqtt(self) -> bool:
        """Whether our own broker takes messages by MQTT, in plain text or over TLS."""
        return self.mqtt is not None or self.mqtts is not None

    @property
    def broker_serves_tls(self) -> bool:
        """Whether our own broker takes clients over TLS."""
        return self.amqps is not None or self.mqtts is not None

    @property
    def broker_certificate(self) -> tuple[Path, Path] | None:
        """Files of the certificate that our own broker serves, and of its key; None: no TLS."""
        if self.broker_tls_cert and self.broker_tls_key:
            return self.broker_tls_cert, self.broker_tls_key
        return (self.tls_cert, self.tls_key) if self.tls_cert and self.tls_key else None

    @property
    def broker_home(self) -> Path:
        """Folder of our own broker's files."""
        return self.data / "broker"

    @property
    def lock_file(self) -> Path:
        """Path of the file that `appliance run` holds a lock of."""
        return self.data / "lock"

    @property
    def run_folder(self) -> Path:
        """Folder for sockets and logs of the processes."""
        return self.run or self.data / "run"

    @property
    def supervisor_socket(self) -> Path:
        """Path of the socket on which supervisord answers."""
        return self.run_folder / "supervisor.sock"

    @property
    def address_file(self) -> Path:
        """Path of the file in which `appliance run` notes the URL of its API while it runs."""
        return self.run_folder / "address"

    @property
    def api_bodies_bytes(self) -> int:
        """Largest size of all bodies under way in one API process: its share, or one request."""
        return max(self.max_bodies_bytes // max(1, self.api_processes), self.max_request_bytes)

    @property
    def backup_folder(self) -> Path:
        """Folder for backups."""
        return self.backups or self.data / "backups"

    @property
    def handlers_home(self) -> Path:
        """Folder with the modules of handlers."""
        return self.handler_folder or self.data / "handlers"

    @property
    def own_url(self) -> str:
        """URL of the API of this appliance, as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.http.host, self.http.host)  # noqa: S104
        return f"{'https' if self.tls_cert else 'http'}://{Address(host, self.http.port)}"

    @property
    def api_url(self) -> str:
        """URL of the API that the command line talks to."""
        return self.url or self.own_url


@dataclass(frozen=True)
class Setting:
    """One setting, for help, docs and checks."""

    name: str
    attribute: str
    default: str
    help: str
    secret: bool
    parse: Callable[[str], Any]


def settings() -> list[Setting]:
    """Every setting, in the order of `Config`."""
    return [
        Setting(PREFIX + f.name.upper(), f.name, **f.metadata) for f in fields(Config) if f.metadata
    ]


def load(environ: Mapping[str, str], *, client: bool = False) -> Config:
    """Read and check every setting.

    A `client` sends its token as it is: whether it is the right one, the API says. Raises
    ConfigError, its message beginning with the variable's name, for a value that fails its check,
    a secret given twice, a file that can't be read, or a variable with our prefix that is no
    setting (most likely a misspelt one).
    """
    all_settings = settings()
    _refuse_unknown(environ, all_settings)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    texts: dict[str, str] = {}
    for setting in all_settings:
        if client and setting.attribute == "token":
            setting = replace(setting, parse=parsers.any_token)  # noqa: PLW2901
        text, sources[setting.name] = _read(setting, environ)
        texts[setting.name] = text
        try:
            values[setting.attribute] = setting.parse(text)
        except ValueError as error:
            shown = "" if setting.secret else f" (got {text!r})"
            raise ConfigError(f"{setting.name}: {error}{shown}") from error
    config = Config(**values, sources=sources, texts=texts)
    if config.max_message_bytes > config.max_request_bytes:
        raise ConfigError(
            f"{PREFIX}MAX_MESSAGE_BYTES: {config.max_message_bytes} is more than "
            f"{PREFIX}MAX_REQUEST_BYTES ({config.max_request_bytes})"
        )
    _check_pair("TLS", config.tls_cert, config.tls_key)
    _check_pair("BROKER_TLS", config.broker_tls_cert, config.broker_tls_key)
    _check_doors(config)
    _check_database(config)
    if config.shards > 1 and not config.broker_url:
        raise ConfigError(
            f"{PREFIX}SHARDS: only the brokers in {PREFIX}BROKER_URL have shards; our own, on one "
            "machine with its worker, gains nothing by them"
        )
    if config.max_request_bytes > config.max_bodies_bytes:
        raise ConfigError(
            f"{PREFIX}MAX_BODIES_BYTES: {config.max_bodies_bytes} is less than one request may "
            f"have, {PREFIX}MAX_REQUEST_BYTES ({config.max_request_bytes})"
        )
    return config


def _check_doors(config: Config) -> None:
    """Refuse a door of our own broker's without what it needs."""
    for name, address in (("AMQPS", config.amqps), ("MQTTS", config.mqtts)):
        if address and not config.broker_certificate:
            raise ConfigError(
                f"{PREFIX}{name}: needs a certificate; set {PREFIX}BROKER_TLS_CERT and "
                f"{PREFIX}BROKER_TLS_KEY, or {PREFIX}TLS_CERT and {PREFIX}TLS_KEY"
            )
    doors = (("AMQPS", config.amqps), ("MQTT", config.mqtt), ("MQTTS", config.mqtts))
    for name, address in doors:
        if address and config.broker_url:
            raise ConfigError(
                f"{PREFIX}{name}: only a broker of the appliance's own listens there, and "
                f"{PREFIX}BROKER_URL names another"
            )


def _check_database(config: Config) -> None:
    if config.database_read_url and not config.database_url:
        raise ConfigError(
            f"{PREFIX}DATABASE_READ_URL: copies of a database are read only together with "
            f"{PREFIX}DATABASE_URL, which names the one that is written"
        )
    if config.database_synchronous_copies and not config.database_url:
        raise ConfigError(
            f"{PREFIX}DATABASE_SYNCHRONOUS_COPIES: only a PostgreSQL database has copies, and "
            f"{PREFIX}DATABASE_URL names none"
        )
    if config.database_url and config.backup_every:
        raise ConfigError(
            f"{PREFIX}BACKUP_EVERY: PostgreSQL's own tools make the backups of the database in "
            f"{PREFIX}DATABASE_URL (docs/postgresql.md); leave it out"
        )


def _check_pair(name: str, certificate: Path | None, key: Path | None) -> None:
    if bool(certificate) is not bool(key):
        lacking = "KEY" if certificate else "CERT"
        raise ConfigError(
            f"{PREFIX}{name}_{lacking}: expected too, where the other of {PREFIX}{name}_CERT and "
            f"{PREFIX}{name}_KEY is set"
        )


def _read(setting: Setting, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return a setting's text and its source."""
    twin = f"{setting.name}_FILE"
    if setting.secret and twin in environ:
        if setting.name in environ:
            raise ConfigError(f"{setting.name}: {twin} is set too; set only one of them")
        try:
            return Path(environ[twin]).read_text().rstrip("\r\n"), f"file {environ[twin]}"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{twin}: can't be read: {error}") from error
    if setting.name in environ:
        return environ[setting.name], "environment"
    return setting.default, "default"


def _refuse_unknown(environ: Mapping[str, str], all_settings: list[Setting]) -> None:
    names = {s.name for s in all_settings} | {f"{s.name}_FILE" for s in all_settings if s.secret}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names:
            # Without the prefix, which would make any two names alike.
            slip, whole = name.removeprefix(PREFIX), {n.removeprefix(PREFIX) for n in names}
            close = difflib.get_close_matches(slip, whole, n=1)
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
            raise ConfigError(f"{name}: is not a setting of the appliance{hint}")
