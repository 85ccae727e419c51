"""Every setting once: its name, default, check and help.

A setting is read from the environment variable `APPLIANCE_<NAME>`. Each secret has a twin
`APPLIANCE_<NAME>_FILE` that names a file to read it from; both at once is an error. The README's
table, the shipped environment file and `appliance config` are all made from, or checked against,
the fields of `Config`.

This is our own hundred lines rather than a settings library because three things were wanted that
those looked at don't give together: where each value came from, twins that exclude one another,
and no weight (five processes of one container import this).
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from appliance.errors import ConfigError
from appliance.model import quantities
from appliance.model.retention import Rules, parse_rules

PREFIX = "APPLIANCE_"


class Address(NamedTuple):
    """A TCP address to listen on or to connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    if not value:
        raise ValueError("expected a folder")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:  # ~NAME of nobody
        raise ValueError(f"expected a folder: {error}") from error


def _optional_path(value: str) -> Path | None:
    return _path(value) if value else None


def _address(value: str) -> Address:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]+)):(\d{1,5})", value)
    if not match or not 0 < int(match[3]) < 65536:
        raise ValueError("expected HOST:PORT, for example 127.0.0.1:8080")
    return Address(match[1] or match[2], int(match[3]))


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value:
            try:
                parts = urlsplit(value)
                usable = parts.scheme in schemes and parts.hostname and parts.port != 0
            except ValueError:  # a port or an IPv6 address that is none; the text may be secret
                usable = False
            if not usable:
                raise ValueError(f"expected {' or '.join(f'{s}://host[:port]' for s in schemes)}")
        return value.rstrip("/")

    return parse


#: Between two URLs; a comma can also be part of one, of a password for example.
_URL_SEPARATOR = re.compile(r"\s*,\s*(?=[a-z]+://|,|$)")


def _urls(*schemes: str) -> Callable[[str], str]:
    """Parse one URL or several, separated by commas."""
    parse_one = _url(*schemes)

    def parse(value: str) -> str:
        if not value:
            return ""
        urls = _URL_SEPARATOR.split(value)
        if not all(urls) or any("," in url.rpartition("@")[2] for url in urls):
            raise ValueError("expected whole addresses between the commas")
        return ",".join(map(parse_one, urls))

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,12}", value) or not low <= int(value) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(value)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", value) or not low <= float(value) <= high:
            raise ValueError(f"expected seconds from {low} to {high}")
        return float(value)

    return parse


def _span(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if value in ("", "0", "off"):
            return 0
        words = f"expected a span from {low} to {high} seconds, for example 12h or 1d, or off"
        try:
            seconds = quantities.span(value)
        except ValueError as error:
            raise ValueError(words) from error
        if not low <= seconds <= high:
            raise ValueError(words)
        return seconds

    return parse


def _size(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        words = f"expected a size from {low} to {high} bytes, for example 1048576 or 1MiB"
        try:
            size = quantities.size(value)
        except ValueError as error:
            raise ValueError(words) from error
        if not low <= size <= high:
            raise ValueError(words)
        return size

    return parse


def _choice(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return value

    return parse


def _token(value: str) -> str:
    if value and not re.fullmatch(r"[\x21-\x7e]{8,256}", value):
        raise ValueError("expected 8 to 256 printable ASCII characters without spaces")
    return value


def _setting(default: str, parse: Callable[[str], Any], text: str, *, secret: bool = False) -> Any:
    return field(metadata={"default": default, "parse": parse, "help": text, "secret": secret})


@dataclass(frozen=True)
class Config:
    """What is in force. Sizes are in bytes, times in seconds."""

    data: Path = _setting("./var", _path, "folder for the database, the broker and the secrets")
    run: Path | None = _setting(
        "", _optional_path, "folder for sockets and logs of the processes; empty: run in the data"
    )
    http: Address = _setting("127.0.0.1:8080", _address, "address the API listens on")
    token: str = _setting(
        "", _token, "administrator's token; empty: made at the first start, kept in data/token",
        secret=True,
    )  # fmt: skip
    amqp: Address = _setting(
        "127.0.0.1:5672", _address, "address of our own broker's listener (loopback)"
    )
    broker_url: str = _setting(
        "",
        _urls("amqp", "amqps"),
        "use the broker at this amqp:// address, start none",
        secret=True,
    )
    workers: int = _setting("2", _whole(1, 16), "workers: one is active, the others stand by")
    max_message_bytes: int = _setting("1MiB", _size(1, 16 * 2**20), "largest single message")
    max_request_bytes: int = _setting("8MiB", _size(1, 16 * 2**20), "largest request")
    max_batch_messages: int = _setting(
        "100000", _whole(1, 1_000_000), "most messages in one request"
    )
    publish_timeout: float = _setting(
        "5", _seconds(0.1, 300), "seconds until a message that is not confirmed is answered 503"
    )
    queue_max_bytes: int = _setting(
        "1GiB", _size(2**20, 2**40), "bytes the queue may hold; beyond: 503 until it drains"
    )
    queue_max_envelopes: int = _setting(
        "1000000",
        _whole(100, 100_000_000),
        "envelopes (one request, or some that share one) the queue may hold; beyond: 503",
    )
    min_free_bytes: int = _setting(
        "256MiB", _size(0, 2**50), "free bytes on the data's disk below which nothing is accepted"
    )
    hang_timeout: float = _setting(
        "30", _seconds(5, 3600), "seconds without a sign of life until a process is restarted"
    )
    retention: Rules = _setting(
        "", parse_rules,
        "what is deleted, by topic: logs.*: age=7d rows=1000000; *: bytes=10GiB; empty: nothing",
    )  # fmt: skip
    backups: Path | None = _setting(
        "", _optional_path, "folder for backups, best on another disk; empty: backups in the data"
    )
    backup_every: int = _setting(
        "off", _span(60, 366 * 86400), "time between scheduled backups, for example 24h; or off"
    )
    backup_keep: int = _setting(
        "7", _whole(1, 10_000), "scheduled backups that are kept; older ones are deleted"
    )
    url: str = _setting(
        "", _url("http", "https"), "address the command line talks to; empty: the own API's"
    )
    log_level: str = _setting(
        "info", _choice("debug", "info", "warning", "error"), "least level that is logged"
    )
    log_format: str = _setting(
        "auto", _choice("auto", "json", "text"), "auto: text on a terminal, else JSON"
    )
    #: name of a setting's variable -> "default", "environment" or "file PATH"
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def broker_urls(self) -> list[str]:
        """Addresses of an outside broker; empty where our own is used."""
        return _URL_SEPARATOR.split(self.broker_url) if self.broker_url else []

    @property
    def broker_home(self) -> Path:
        """Folder of our own broker's files."""
        return self.data / "broker"

    @property
    def run_folder(self) -> Path:
        """Folder for sockets and logs of the processes."""
        return self.run or self.data / "run"

    @property
    def supervisor_socket(self) -> Path:
        """Path of the socket on which supervisord answers."""
        return self.run_folder / "supervisor.sock"

    @property
    def backup_folder(self) -> Path:
        """Folder for backups."""
        return self.backups or self.data / "backups"

    @property
    def api_url(self) -> str:
        """Address at which the command line finds the API."""
        if self.url:
            return self.url
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.http.host, self.http.host)  # noqa: S104
        return f"http://{Address(host, self.http.port)}"


@dataclass(frozen=True)
class Setting:
    """What is known of one setting, for help, docs and checks."""

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


def load(environ: Mapping[str, str]) -> Config:
    """Read and check every setting.

    Raises ConfigError, its message beginning with the variable's name, for a value that fails its
    check, a secret given twice, a file that can't be read, or a variable with our prefix that is
    no setting (most likely a slip of the pen).
    """
    known = settings()
    _refuse_unknown(environ, known)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in known:
        raw, sources[setting.name] = _find(setting, environ)
        try:
            values[setting.attribute] = setting.parse(raw)
        except ValueError as error:
            shown = "" if setting.secret else f" (got {raw!r})"
            raise ConfigError(f"{setting.name}: {error}{shown}") from error
    config = Config(**values, sources=sources)
    if config.max_message_bytes > config.max_request_bytes:
        raise ConfigError(
            f"{PREFIX}MAX_MESSAGE_BYTES: {config.max_message_bytes} is more than "
            f"{PREFIX}MAX_REQUEST_BYTES ({config.max_request_bytes})"
        )
    return config


def _find(setting: Setting, environ: Mapping[str, str]) -> tuple[str, str]:
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


def _refuse_unknown(environ: Mapping[str, str], known: list[Setting]) -> None:
    names = {s.name for s in known} | {f"{s.name}_FILE" for s in known if s.secret}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names:
            # Without the prefix: it would make any two names alike.
            slip, whole = name.removeprefix(PREFIX), {n.removeprefix(PREFIX) for n in names}
            close = difflib.get_close_matches(slip, whole, n=1)
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
            raise ConfigError(f"{name}: is not a setting of the appliance{hint}")
