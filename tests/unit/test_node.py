"""What our own RabbitMQ node is started with; that it starts is tested in tests/integration."""

import base64
import hashlib
import socket
import stat
from pathlib import Path

import pytest

from appliance import config as settings
from appliance.broker import base
from appliance.broker.node import configuration, definitions, start, users
from appliance.broker.node import release as installed
from appliance.broker.node.configuration import Limits
from appliance.broker.node.layout import Layout
from appliance.config import Address
from appliance.errors import NodeError

MIB = 2**20
NOBODY = users.imported([])
GIB = 2**30


def text(tmp_path, *, release=(4, 0, 5), logs="json", disk_free=256 * MIB):
    return configuration.config_text(
        Layout(tmp_path),
        release=release,
        listen=Address("127.0.0.1", 5672),
        limits=Limits(GIB, disk_free, segment=32 * 2**20, message=128 * 2**20),
        log_level="info",
        logs=logs,
    )


def environment(tmp_path, release=(4, 0, 5), outer=None, plugins=(), modules=None):
    return configuration.environment(
        Layout(tmp_path),
        release=release,
        distribution=25672,
        schedulers=2,
        log_level="info",
        outer=outer or {},
        plugins=plugins,
        modules=modules,
    )


def test_a_password_is_hashed_as_rabbitmq_stores_it():
    raw = base64.b64decode(definitions.hash_password("secret", b"salt"))
    assert raw[:4] == b"salt"
    assert raw[4:] == hashlib.sha256(b"saltsecret").digest()


def test_the_password_itself_is_not_among_the_definitions():
    assert "very secret" not in repr(definitions.definitions("very secret", GIB, 1000, NOBODY))


def test_policies_bound_the_queues_and_let_nothing_that_is_given_up_get_lost():
    store, dead, *_ = definitions.definitions("secret", GIB, 1000, NOBODY)["policies"]
    bounds = {"max-length-bytes": GIB, "max-length": 1000, "overflow": "reject-publish"}
    assert store["definition"] == bounds | {
        "dead-letter-exchange": "appliance.dead",
        "dead-letter-strategy": "at-least-once",  # it needs reject-publish
    }
    assert dead["definition"] == bounds
    patterns = [policy["pattern"] for policy in (store, dead)]
    assert patterns == ["^appliance[.]store$", "^appliance[.]dead$"]
    assert definitions.definitions("secret", GIB, 1000, NOBODY)["users"][0]["name"] == base.USER
    assert (base.QUEUE, base.DEAD) == ("appliance.store", "appliance.dead")


def test_anonymous_logins_are_refused_where_the_release_knows_them(tmp_path):
    assert "anonymous_login_user = none\n" in text(tmp_path, release=(4, 0, 5))
    assert "anonymous_login_user" not in text(tmp_path, release=(3, 10, 8))


def test_the_log_is_json_only_when_asked_for(tmp_path):
    assert "log.console.formatter = json\n" in text(tmp_path)
    assert "log.console.formatter = plaintext\n" in text(tmp_path, logs="text")


def test_the_log_has_no_escape_sequences(tmp_path):
    assert "log.console.use_colors = off\n" in text(tmp_path, logs="text")
    assert "log.console.use_colors = off\n" in text(tmp_path)


def test_an_epmd_is_not_started_and_would_listen_on_the_loopback_interface_only(tmp_path):
    outer = {"ERL_EPMD_ADDRESS": "0.0.0.0", "ERL_ZFLAGS": ""}
    for release in ((4, 0, 5), (3, 10, 8)):
        inner = environment(tmp_path, release, outer)
        assert inner["ERL_EPMD_ADDRESS"] == "127.0.0.1"
        assert inner["ERL_ZFLAGS"] == "-start_epmd false"


def test_in_the_journal_the_log_has_its_levels(tmp_path):
    written = text(tmp_path, logs="journal")
    assert "log.journald = true\n" in written
    assert "log.journald.level = warning\n" in written
    assert "log.console = false\n" in written
    assert "log.console." not in written


def test_the_broker_keeps_free_at_least_what_it_needs_to_recover(tmp_path):
    assert "disk_free_limit.absolute = 50000000\n" in text(tmp_path, disk_free=0)
    assert f"disk_free_limit.absolute = {GIB}\n" in text(tmp_path, disk_free=GIB)


def test_nothing_of_the_hosts_environment_changes_the_node(tmp_path):
    hostile = {
        "RABBITMQ_MNESIA_BASE": "/var/lib/rabbitmq/mnesia",
        "RABBITMQ_CONF_ENV_FILE": "/etc/rabbitmq/rabbitmq-env.conf",
        "ERL_FLAGS": "-sname other",
        "HOME": "/root",
        "APPLIANCE_TOKEN": "secret token",
        "NOTIFY_SOCKET": "",
    }
    inner = environment(tmp_path, outer=hostile)
    assert not set(hostile.values()) & set(inner.values())
    assert inner["HOME"] == str(tmp_path)
    assert "NOTIFY_SOCKET" not in inner


def test_every_path_of_the_node_lies_below_its_own_folder(tmp_path):
    outside = {
        name: value
        for name, value in environment(tmp_path).items()
        if value.startswith("/") and not value.startswith(str(tmp_path)) and name != "PATH"
    }
    assert outside == {"RABBITMQ_CONF_ENV_FILE": "/dev/null"}


def test_the_node_reads_the_settings_of_no_plugin_where_none_is_on(tmp_path):
    configuration.write_all(Layout(tmp_path), "config", {})
    named = Path(environment(tmp_path, (3, 10, 8))["RABBITMQ_PLUGINS_DIR"])
    assert [path.relative_to(named) for path in named.rglob("*")] == [Path("rabbit")]
    assert "RABBITMQ_PLUGINS_DIR" not in environment(
        tmp_path, (3, 10, 8), plugins=["rabbitmq_mqtt"]
    )
    assert "RABBITMQ_PLUGINS_DIR" not in environment(tmp_path, (4, 0, 5))


def test_a_folder_whose_name_rabbitmq_would_take_apart_is_not_named_to_it(tmp_path):
    assert "RABBITMQ_PLUGINS_DIR" not in environment(tmp_path / "a:b", (3, 10, 8))


def test_erlang_looks_into_the_gathered_modules_first_where_no_plugin_is_on(tmp_path):
    """With one on, RabbitMQ would look for plugins beside the modules."""
    modules = tmp_path / "modules"
    name = "RABBITMQ_SERVER_CODE_PATH"
    assert environment(tmp_path, (3, 10, 8), modules=modules)[name] == str(modules)
    assert name not in environment(tmp_path, (3, 10, 8))
    assert name not in environment(tmp_path, (3, 10, 8), plugins=["a"], modules=modules)
    assert name not in environment(tmp_path / "a:b", (3, 10, 8), modules=modules)


def test_systemd_is_told_only_where_it_listens(tmp_path):
    assert environment(tmp_path, outer={"NOTIFY_SOCKET": "/run/x"})["NOTIFY_SOCKET"] == "/run/x"


def test_a_flag_that_erlang_25_does_not_know_is_not_given_to_it(tmp_path):
    assert "+JM" in environment(tmp_path, (4, 0, 5))["RABBITMQ_SERVER_ERL_ARGS"]
    assert "+JM" not in environment(tmp_path, (3, 10, 8))["RABBITMQ_SERVER_ERL_ARGS"]


def test_each_release_is_told_in_its_own_way_to_free_the_disk_early(tmp_path):
    for release, words in (((4, 0, 5), "checkpoint_config"), ((3, 10, 8), "snapshot_interval 256")):
        assert words in environment(tmp_path, release)["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
    assert "raft.segment_max_entries = 128\n" in text(tmp_path, release=(3, 10, 8))


def test_no_argument_for_erlang_holds_a_space_within(tmp_path):
    """The start script splits them at spaces and knows no quotes."""
    arguments = environment(tmp_path)["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"].split()
    evaluated = arguments[arguments.index("-eval") + 1]
    assert evaluated.startswith("persistent_term:put(")
    assert evaluated.endswith(").")


@pytest.mark.parametrize(
    ("limit", "machine", "mark"),
    [
        (None, 24 * GIB, 2 * GIB),
        (None, 2 * GIB, int(2 * GIB * 0.4)),
        (GIB, 24 * GIB, int(GIB * 0.4)),
        (384 * MIB, 24 * GIB, 192 * MIB),
        (320 * MIB, 24 * GIB, 160 * MIB),
        (64 * GIB, 2 * GIB, int(2 * GIB * 0.4)),
    ],
)
def test_the_memory_mark_follows_the_limit_and_never_exceeds_it(limit, machine, mark):
    assert configuration.memory_mark(limit, machine) == mark


def test_the_release_is_read_from_the_folders_name_and_the_newest_wins(tmp_path):
    for release in ("3.10.8", "4.0.5"):
        server = tmp_path / f"lib/rabbitmq_server-{release}/sbin/rabbitmq-server"
        server.parent.mkdir(parents=True)
        server.touch()
    assert installed.find_server(tmp_path) == ((4, 0, 5), server)


def test_a_missing_broker_is_answered_with_the_one_command_to_type(tmp_path):
    with pytest.raises(NodeError, match="apt-get install rabbitmq-server"):
        installed.find_server(tmp_path)


@pytest.mark.parametrize(
    ("last", "now"),
    [("4.0.5", (3, 13, 7)), ("3.10.8", (4, 0, 5)), ("3.13.7", (4, 1, 0)), ("4.1.0", (4, 0, 5))],
)
def test_a_jump_that_rabbitmq_does_not_support_is_refused_before_data_is_touched(
    tmp_path, last, now
):
    layout = Layout(tmp_path)
    layout.version.write_text(f"{last}\n")
    with pytest.raises(NodeError, match=f"written by RabbitMQ {last}"):
        installed.check_upgrade(layout, now)


@pytest.mark.parametrize(
    ("last", "now"), [("4.0.5", (4, 0, 5)), ("4.0.5", (4, 1, 0)), ("3.13.7", (4, 0, 5))]
)
def test_an_upgrade_that_rabbitmq_supports_goes_through(tmp_path, last, now):
    layout = Layout(tmp_path)
    installed.check_upgrade(layout, now)  # a new folder
    layout.version.write_text(f"{last}\n")
    installed.check_upgrade(layout, now)


def test_secrets_are_readable_by_their_owner_only(tmp_path):
    layout = Layout(tmp_path / "broker")
    configuration.write_all(layout, "config", definitions.definitions("secret", GIB, 1000, NOBODY))
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (layout.home, layout.cookie, layout.definitions, layout.config)
    }
    assert modes == {
        "broker": 0o700,
        ".erlang.cookie": 0o400,
        "definitions.json": 0o600,
        "rabbitmq.conf": 0o600,
    }


def test_the_cookie_stays_the_same_from_start_to_start(tmp_path):
    layout = Layout(tmp_path)
    configuration.write_all(layout, "config", {})
    cookie = layout.cookie.read_text()
    configuration.write_all(layout, "config", {})
    assert layout.cookie.read_text() == cookie


def test_a_taken_port_is_named_with_its_setting(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = settings.load(
            {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_AMQP": f"127.0.0.1:{port}"}
        )
        with pytest.raises(NodeError, match=f"APPLIANCE_AMQP: 127.0.0.1:{port} is taken"):
            start.check_ports(config)
