"""Settings: what is taken, what is refused, and with which words."""

import os
import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.config import Address, load, settings
from appliance.config.parsers import PublicUrl
from appliance.errors import ConfigError
from appliance.model.drains import DrainedQueue
from appliance.model.expectations import Expectation, Expectations
from appliance.model.handler_rules import HandlerRules
from appliance.model.retention import Rule, Rules

APPLIANCE = str(Path(sys.executable).with_name("appliance"))

#: setting -> (values that are taken and what becomes of them, values that are refused)
VALUES = {
    "DATA": ({"/srv/x": Path("/srv/x"), "y": Path.cwd() / "y"}, [""]),
    "RUN": ({"/run/x": Path("/run/x"), "": None}, []),
    "HTTP": (
        {
            "0.0.0.0:80": Address("0.0.0.0", 80),
            "[::1]:8080": Address("::1", 8080),
            "localhost:65535": Address("localhost", 65535),
        },
        ["", "8080", ":8080", "host:", "host:0", "host:65536", "::1:8080", "a b:1", "host:8080x"],
    ),
    "PUBLIC_URL": (
        {
            "": None,
            "https://inbox.example": PublicUrl("https", "inbox.example", ""),
            "https://inbox.example/": PublicUrl("https", "inbox.example", ""),
            "http://a.example:8080/in/box/": PublicUrl("http", "a.example:8080", "/in/box"),
            "https://[::1]:8443/x": PublicUrl("https", "[::1]:8443", "/x"),
        },
        [
            "inbox.example",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://a/?b",
            "https://a/#b",
            "https://a//b",
            "https://a:0",
            "https://a:99999",
            "https://a b",
        ],
    ),
    "TRUSTED_PROXIES": (
        {
            "": (),
            "127.0.0.1": (ip_network("127.0.0.1"),),
            "10.0.0.0/8, ::1 fd00::/8": tuple(map(ip_network, ("10.0.0.0/8", "::1", "fd00::/8"))),
        },
        ["10.0.0.1/8", "localhost", "10.0.0.0/33", "10.0.0.0/8,,::1", "*"],
    ),
    "DELIVER_ALLOW": (
        {"": (), "10.0.0.0/8, ::1": (ip_network("10.0.0.0/8"), ip_network("::1"))},
        ["10.0.0.1/8", "localhost", "*"],
    ),
    "DELIVERIES_KEPT": ({"1000": 1000, "10000000": 10**7}, ["999", "10000001", "1e6"]),
    "DELIVERIES_AGE": ({"1m": 60, "30d": 2_592_000, "off": 0}, ["59s", "11y", "long"]),
    "TOKEN": (
        {
            "": "",
            "0123456789abcdefghijkl": "0123456789abcdefghijkl",
            "xyz0123!" * 32: "xyz0123!" * 32,
        },
        [
            "0123456789abcdefghijk",
            "x" * 32,
            "with a space and much more",
            "xyz0123!" * 33,
            "ümlaut-token-of-30-characters",
            "a-tab\tthere-and-not-too-short!",
        ],
    ),
    "AMQPS": (
        {"": None, "0.0.0.0:5671": Address("0.0.0.0", 5671)},
        ["0.0.0.0", "5671"],
    ),
    "BROKER_TLS_CERT": (
        {"/a/cert.pem": Path("/a/cert.pem"), "": None},
        ["~nobody-has-it/cert.pem"],
    ),
    "BROKER_TLS_KEY": ({"/a/key.pem": Path("/a/key.pem"), "": None}, ["~nobody-has-it/key.pem"]),
    "DRAIN": (
        {
            "": (),
            "hello": (DrainedQueue("hello", "hello"),),
            "hello, Old-Queue=old.queue": (
                DrainedQueue("hello", "hello"),
                DrainedQueue("Old-Queue", "old.queue"),
            ),
        },
        [
            *("Old-Queue", "a=B", "=topic", "a=", "hello,hello", "a" * 201, "a\tb"),
            *("appliance.store", "amq.gen-x=x", ",".join(f"q{n}" for n in range(21))),
        ],
    ),
    "AMQP": ({"127.0.0.1:5673": Address("127.0.0.1", 5673)}, ["127.0.0.1", "127.0.0.1:-1"]),
    "MQTT": (
        {"off": None, "": None, "0.0.0.0:1883": Address("0.0.0.0", 1883)},
        ["1883", "on", "127.0.0.1", "mqtt://127.0.0.1:1883"],
    ),
    "MQTTS": (
        {"off": None, "": None, "0.0.0.0:8883": Address("0.0.0.0", 8883)},
        ["8883", "on", "0.0.0.0"],
    ),
    "BROKER_URL": (
        {
            "": "",
            "amqp://u:p@host:5672/v": "amqp://u:p@host:5672/v",
            "amqps://h/": "amqps://h",
            "amqp://u:p,q@h/ , amqps://[::1]:5": "amqp://u:p,q@h,amqps://[::1]:5",
        },
        [
            "http://host",
            "amqp://",
            "host:5672",
            "amqp://host:99999",
            "amqp://[::1",
            "amqp://one,",
            "amqp://one,,amqp://two",
            "amqp://one,http://two",
            ",amqp://one",
            "amqp://one,amqp://two:99999",
            "amqp://one,two",
        ],
    ),
    "BROKER_USERS": ({"": (), "a": ("a",), " a , b ": ("a", "b")}, [",", "a,,b", "x" * 256]),
    "DATABASE_URL": (
        {
            each: each
            for each in (
                "",
                "postgresql://u:p@h/d",
                "postgres://h:5432,g/d?sslmode=verify-full",
                "postgresql:///d?host=/run/postgresql",
            )
        },
        ["h/d", "mysql://h/d", "postgresql://h", "postgresql://u:p@h/", "postgresql://h/d e"],
    ),
    "DATABASE_READ_URL": ({"": ""}, ["mysql://h/d", "postgresql://h"]),
    "SHARDS": ({"1": 1, "4": 4, "16": 16}, ["0", "3", "32", "01", "two", ""]),
    "DATABASE_SYNCHRONOUS_COPIES": ({"0": 0, "2": 2, "10": 10}, ["11", "-1", "all", ""]),
    "WORKERS": ({"1": 1, "16": 16}, ["0", "17", "-1", "1.5", "two", ""]),
    "MAX_MESSAGE_BYTES": (
        {"1": 1, "64k": 64_000, "64KiB": 65_536, "1 MiB": 2**20, "2mb": 2_000_000},
        ["0", "33MiB", "-1", "1.5MiB", "1TiB", "", "MiB"],
    ),
    "MAX_REQUEST_BYTES": ({"32MiB": 2**25, "1mib": 2**20}, ["0", "33554433"]),
    "MAX_BATCH_MESSAGES": ({"1": 1, "1000000": 10**6}, ["0", "1000001", "1e3"]),
    "MAP_TOPICS": ({"on": True, "off": False}, ["yes", "1", ""]),
    "TLS_CERT": (
        {"/a/cert.pem": Path("/a/cert.pem"), "": None},
        ["~nobody-has-it/cert.pem"],
    ),
    "TLS_KEY": ({"/a/key.pem": Path("/a/key.pem"), "": None}, ["~nobody-has-it/key.pem"]),
    "MAX_STREAMS": ({"1": 1, "4000": 4000}, ["0", "4001", "many"]),
    "MAX_BODIES_BYTES": ({"8MiB": 2**23, "1TiB": 2**40}, ["0", "1023k", "1PiB", "many"]),
    "PUBLISH_TIMEOUT": ({"0.1": 0.1, "5": 5.0, "300": 300.0}, ["0", "0.05", "301", "5s", "nan"]),
    "QUEUE_MAX_BYTES": ({"1MiB": 2**20, "1024GiB": 2**40}, ["1023KiB", "0", "2000GiB"]),
    "QUEUE_MAX_ENVELOPES": ({"100": 100, "100000000": 10**8}, ["99", "1e6", "100000001"]),
    "QUARANTINE_BYTES": ({"1MiB": 2**20, "1g": 10**9}, ["1023KiB", "0", "off", "2000GiB"]),
    "QUARANTINE_RATE": ({"1": 1, "1000000": 10**6}, ["0", "1000001", "60/m", ""]),
    "QUARANTINE_AGE": ({"1m": 60, "30d": 2_592_000, "off": 0}, ["59s", "11y", "long"]),
    "SEARCH_INDEX": ({"on": True, "off": False}, ["yes", "1", ""]),
    "MIN_FREE_BYTES": ({"0": 0, "1g": 10**9}, ["-1", "lots"]),
    "HANG_TIMEOUT": ({"5": 5.0, "3600": 3600.0}, ["4.9", "0", "3601", "30s"]),
    "RETENTION": (
        {
            "": Rules(),
            "*: keep": Rules((Rule("*"),)),
            "logs.*: age=7d rows=1000000; *: bytes=10GiB": Rules(
                (Rule("logs.*", age=604_800, rows=10**6), Rule("*", bytes=10 * 2**30))
            ),
            " a:age=1m,rows=0 ;; ": Rules((Rule("a", age=60, rows=0),)),
        },
        [
            "7d",
            "logs",
            "logs:",
            ": age=7d",
            "logs: 7d",
            "logs: age=7",
            "logs: age=59s",
            "logs: rows=1e6",
            "logs: bytes=many",
            "logs: size=3",
            "logs: age=1d age=2d",
            "logs: keep rows=1",
            "Logs: keep",
            "lo gs: keep",
            "*: keep; logs: age=1d",
            "a: age=1d; a: age=2d",
        ],
    ),
    "HANDLERS": (
        {
            "": HandlerRules(),
            "orders=shop:check": HandlerRules([("orders", "shop:check")]),
            " a = m.n:f , logs.*=m:f,": HandlerRules([("a", "m.n:f"), ("logs.*", "m:f")]),
        },
        [
            "orders",
            "orders=shop",
            "orders=shop:",
            "orders=:check",
            "orders=shop:check()",
            "orders=../shop:check",
            "Orders=shop:check",
            "=shop:check",
            "*=a:b, orders=a:c",
            "orders=a:b, orders=a:c",
        ],
    ),
    "HANDLER_FOLDER": ({"/a": Path("/a"), "": None}, ["~nobody-has-it/a"]),
    "API_PROCESSES": ({"0": 0, "1": 1, "16": 16}, ["17", "-1", "two", ""]),
    "HANDLER_PROCESSES": ({"0": 0, "64": 64}, ["65", "-1", "two"]),
    "HANDLER_TIMEOUT": ({"0.1": 0.1, "3600": 3600.0}, ["0", "3601", "5s"]),
    "HANDLER_MEMORY": ({"64MiB": 2**26, "1g": 10**9}, ["63MiB", "0", "off"]),
    "HANDLER_ATTEMPTS": ({"1": 1, "100": 100}, ["0", "101", "many"]),
    "HANDLED_AGE": ({"1h": 3600, "30d": 2_592_000, "off": 0}, ["59m", "11y", "long"]),
    "EXPECT": (
        {
            "": Expectations(),
            "orders: every=5m; till-*: every=1h": Expectations(
                (Expectation("orders", 300), Expectation("till-*", 3600))
            ),
        },
        ["5m", "orders", "orders: 5m", "orders: every=29s", "Orders: every=5m"],
    ),
    "ALERT_URL": (
        {"": "", "https://h/a?b=c": "https://h/a?b=c", "http://[::1]:80/": "http://[::1]:80"},
        ["h:80", "ftp://h", "https://user:secret@h/", "https://"],
    ),
    "BACKUPS": ({"/mnt/x": Path("/mnt/x"), "": None}, []),
    "BACKUP_EVERY": (
        {"off": 0, "0": 0, "": 0, "90s": 90, "12h": 43_200, "1d": 86_400, "2w": 1_209_600},
        ["59s", "1", "never", "367d", "-1h", "1.5h"],
    ),
    "BACKUP_KEEP": ({"1": 1, "10000": 10_000}, ["0", "-1", "all"]),
    "CANARY_EVERY": ({"off": 0, "1m": 60, "10s": 10, "1d": 86_400}, ["9s", "60", "2d"]),
    "BACKUP_PROVE_EVERY": ({"off": 0, "0": 0, "7d": 604_800, "60s": 60}, ["59s", "weekly", "367d"]),
    "URL": (
        {
            "": "",
            "https://h:1/x/": "https://h:1/x",
            "127.0.0.1:8080": "http://127.0.0.1:8080",
            "[::1]:8080": "http://[::1]:8080",
        },
        ["ftp://h", "ftp:8080/", "h:0", "http://"],
    ),
    "LOG_LEVEL": ({"debug": "debug", "error": "error"}, ["DEBUG", "trace", ""]),
    "LOG_FORMAT": (
        {name: name for name in ("auto", "json", "text", "terminal")},
        ["xml", ""],
    ),
}
GOOD = [
    pytest.param(name, raw, value, id=f"{name}={raw[:24]}")
    for name, (good, _) in VALUES.items()
    for raw, value in good.items()
]
BAD = [
    pytest.param(name, raw, id=f"{name}={raw[:24]}")
    for name, (_, bad) in VALUES.items()
    for raw in bad
]


def test_every_setting_is_tried_here():
    assert {f"APPLIANCE_{name}" for name in VALUES} == {s.name for s in settings()}


@pytest.mark.parametrize(("name", "raw", "value"), GOOD)
def test_a_good_value_is_taken_and_its_source_is_remembered(name, raw, value):
    environ = {f"APPLIANCE_{name}": raw}
    if name.startswith("TLS_") and raw:
        environ = {"APPLIANCE_TLS_CERT": "/a/cert.pem", "APPLIANCE_TLS_KEY": "/a/key.pem"}
    if name.startswith("BROKER_TLS_") and raw:
        pair = {"APPLIANCE_BROKER_TLS_CERT": "/a/cert.pem"}
        environ = pair | {"APPLIANCE_BROKER_TLS_KEY": "/a/key.pem"}
    if name in ("AMQPS", "MQTTS"):
        environ |= {"APPLIANCE_TLS_CERT": "/a/cert.pem", "APPLIANCE_TLS_KEY": "/a/key.pem"}
    if name == "SHARDS":
        environ["APPLIANCE_BROKER_URL"] = "amqp://h"
    if name == "MAX_REQUEST_BYTES":
        environ["APPLIANCE_MAX_MESSAGE_BYTES"] = "1"
    if name == "DATABASE_SYNCHRONOUS_COPIES":
        environ["APPLIANCE_DATABASE_URL"] = "postgresql://h/d"
    config = load(environ)
    assert getattr(config, name.lower()) == value
    assert config.sources[f"APPLIANCE_{name}"] == "environment"


@pytest.mark.parametrize(("name", "raw"), BAD)
def test_a_bad_value_is_refused_and_the_message_begins_with_the_name(name, raw):
    with pytest.raises(ConfigError, match=rf"^APPLIANCE_{name}: ") as caught:
        load({f"APPLIANCE_{name}": raw})
    if name in ("TOKEN", "BROKER_URL", "DATABASE_URL") and len(raw) > len("amqp://"):
        assert raw not in str(caught.value)  # a secret, even a mistyped one, is not repeated


@pytest.mark.parametrize("door", ["AMQPS", "MQTTS"])
@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({}, "certificate"),
        ({"BROKER_URL": "amqp://a:b@c/", "TLS_CERT": "/c", "TLS_KEY": "/k"}, "BROKER_URL"),
    ],
)
def test_tls_door_of_the_broker_without_what_it_needs_is_refused(door, others, words):
    environ = {f"APPLIANCE_{name}": value for name, value in others.items()}
    with pytest.raises(ConfigError, match=rf"^APPLIANCE_{door}: .*{words}"):
        load(environ | {f"APPLIANCE_{door}": "0.0.0.0:5671"})


def test_broker_serves_the_certificate_of_the_api_unless_it_has_one_of_its_own():
    own = {"APPLIANCE_BROKER_TLS_CERT": "/b", "APPLIANCE_BROKER_TLS_KEY": "/bk"}
    apis = {"APPLIANCE_TLS_CERT": "/c", "APPLIANCE_TLS_KEY": "/k"}
    assert load(apis).broker_certificate == (Path("/c"), Path("/k"))
    assert load(apis | own).broker_certificate == (Path("/b"), Path("/bk"))
    assert load({}).broker_certificate is None


def test_the_text_of_a_setting_is_kept_as_it_was_written():
    texts = load({"APPLIANCE_MIN_FREE_BYTES": "1g"}).texts
    assert texts["APPLIANCE_MIN_FREE_BYTES"] == "1g"
    assert texts["APPLIANCE_QUEUE_MAX_BYTES"] == "1GiB"


def test_a_clients_token_of_any_form_is_left_to_the_api():
    assert load({"APPLIANCE_TOKEN": "short"}, client=True).token == "short"
    with pytest.raises(ConfigError, match=r"^APPLIANCE_TOKEN: "):
        load({"APPLIANCE_TOKEN": "two\nlines"}, client=True)


def test_the_defaults_pass_their_own_checks():
    config = load({})
    assert config.http == Address("127.0.0.1", 8080)
    assert config.data == Path.cwd() / "var"
    assert set(config.sources.values()) == {"default"}


def test_other_programs_variables_are_none_of_our_business():
    assert load({"HOME": "/x", "MY_APPLIANCE_TOKEN": "y"}) == load({})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("APPLIANCE_WORKER", "APPLIANCE_WORKERS"),
        ("APPLIANCE_TOKEN_FLIE", "APPLIANCE_TOKEN_FILE"),
        ("APPLIANCE_MAX_MESSAGES_BYTES", "APPLIANCE_MAX_MESSAGE_BYTES"),
    ],
)
def test_an_unknown_setting_is_refused_with_a_hint(name, hint):
    with pytest.raises(ConfigError, match=rf"^{name}: .*did you mean {hint}\?$"):
        load({name: "1"})


def test_an_unknown_setting_like_no_other_gets_no_hint():
    with pytest.raises(ConfigError, match=r"^APPLIANCE_XYZZY: is not a setting of the appliance$"):
        load({"APPLIANCE_XYZZY": "1"})


def test_only_secrets_have_a_twin():
    for setting in settings():
        if not setting.secret:
            with pytest.raises(ConfigError, match=rf"^{setting.name}_FILE: is not a setting"):
                load({f"{setting.name}_FILE": "/dev/null"})


@pytest.mark.parametrize(
    ("name", "value"), [("TOKEN", "from-a-file-of-some-length"), ("BROKER_URL", "amqp://h/v")]
)
def test_a_secret_is_read_from_its_file_without_the_line_end(tmp_path, name, value):
    file = tmp_path / "secret"
    file.write_text(value + "\r\n")
    config = load({f"APPLIANCE_{name}_FILE": str(file)})
    assert getattr(config, name.lower()) == value
    assert config.sources[f"APPLIANCE_{name}"] == f"file {file}"


@pytest.mark.parametrize("name", ["TOKEN", "BROKER_URL"])
def test_a_secret_and_its_twin_together_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"^APPLIANCE_{name}: .*only one"):
        load({f"APPLIANCE_{name}": "", f"APPLIANCE_{name}_FILE": str(tmp_path / "x")})


@pytest.mark.parametrize("content", [None, b"\xff\xfe-not-text"])
def test_a_twin_that_cannot_be_read_is_refused(tmp_path, content):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^APPLIANCE_TOKEN_FILE: can't be read"):
        load({"APPLIANCE_TOKEN_FILE": str(file)})


def test_a_message_may_not_be_larger_than_a_request():
    with pytest.raises(ConfigError, match=r"^APPLIANCE_MAX_MESSAGE_BYTES: 2097152 is more than"):
        load({"APPLIANCE_MAX_MESSAGE_BYTES": "2MiB", "APPLIANCE_MAX_REQUEST_BYTES": "1MiB"})


def test_copies_of_a_database_are_refused_without_the_one_that_is_written():
    both = {f"APPLIANCE_DATABASE{kind}_URL": "postgresql://h/d" for kind in ("", "_READ")}
    assert load(both).database_read_url
    with pytest.raises(ConfigError, match=r"^APPLIANCE_DATABASE_READ_URL: "):
        load({"APPLIANCE_DATABASE_READ_URL": "postgresql://h/d"})


def test_synchronous_copies_are_refused_without_a_database_that_can_have_any():
    wanted = {"APPLIANCE_DATABASE_SYNCHRONOUS_COPIES": "1"}
    assert load({"APPLIANCE_DATABASE_URL": "postgresql://h/d", **wanted})
    with pytest.raises(ConfigError, match=r"^APPLIANCE_DATABASE_SYNCHRONOUS_COPIES: "):
        load(wanted)


def test_scheduled_backups_of_postgresql_are_refused():
    with pytest.raises(ConfigError, match=r"^APPLIANCE_BACKUP_EVERY: "):
        load({"APPLIANCE_DATABASE_URL": "postgresql://h/d", "APPLIANCE_BACKUP_EVERY": "1h"})


@pytest.mark.parametrize("url", ["~nobody-of-this-name/x"])
def test_a_home_folder_that_nobody_has_is_refused(url):
    with pytest.raises(ConfigError, match=r"^APPLIANCE_DATA: "):
        load({"APPLIANCE_DATA": url})


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", []),
        ("amqp://u:p,q@one/v", ["amqp://u:p,q@one/v"]),
        ("amqp://u:p,q@one/v,amqps://two", ["amqp://u:p,q@one/v", "amqps://two"]),
    ],
)
def test_an_outside_broker_can_have_several_addresses(text, urls):
    assert load({"APPLIANCE_BROKER_URL": text}).broker_urls == urls


@pytest.mark.parametrize(
    ("http", "url"),
    [
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("host:80", "http://host:80"),
    ],
)
def test_the_command_line_finds_the_own_api(http, url):
    assert load({"APPLIANCE_HTTP": http}).api_url == url
    assert load({"APPLIANCE_HTTP": http, "APPLIANCE_URL": "http://else"}).api_url == "http://else"


@pytest.mark.parametrize("command", ["api", "worker", "broker", "janitor", "migrate", "config"])
def test_a_bad_setting_stops_every_process_with_its_name_and_a_status_of_its_own(tmp_path, command):
    environ = {
        "PATH": os.environ["PATH"],
        "APPLIANCE_DATA": str(tmp_path),
        "APPLIANCE_WORKERS": "many",
    }
    done = subprocess.run(
        [APPLIANCE, command], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 78
    assert re.fullmatch(r"appliance: APPLIANCE_WORKERS: .*many.*\n", done.stderr)
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []  # before anything was touched


def test_a_setting_has_one_definition():
    names = [s.name for s in settings()]
    assert len(names) == len(set(names))
    assert all(s.help and s.name.startswith(configuration.PREFIX) for s in settings())
