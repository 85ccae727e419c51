"""The package on a fresh host: installed, used, broken, upgraded, removed. One story in order.

On Debian 12 (systemd 252, RabbitMQ 3.10) and Debian 13 (systemd 257, RabbitMQ 4.0). Everything is
done as an administrator would, or from outside over the published port.
"""

import json
import re
import time

import pytest
from engine import wait_until
from host import PATIENCE, SERVICES
from loaded import loaded

pytestmark = pytest.mark.timeout(600)

#: Most that `systemd-analyze security` may say of a unit, from 0 (tightest) to 10.
MOST_EXPOSED = {"broker": 2.0, "supervisord": 2.0}
MOST_EXPOSED_PYTHON = 1.5


def debians_own(host) -> tuple[str, str]:
    shown = [host.show("rabbitmq-server.service", name) for name in ("ActiveState", "MainPID")]
    return shown[0], shown[1]


def test_apt_installs_it_and_that_ends_with_the_service_running_and_a_token(host, previous):
    begin = time.monotonic()
    said = host.install(previous)
    print(f"installed, with RabbitMQ and Erlang, in {time.monotonic() - begin:.1f} s")
    assert "The appliance runs" in said
    assert host.show("appliance.target", "ActiveState") == "active"
    assert host.show("appliance.target", "UnitFileState") == "enabled"
    assert all(host.active(service) for service in SERVICES)
    assert re.fullmatch(r"\S{43}", host.run("appliance", "token").strip())
    found = host.run("find", "/var/lib/appliance", "/run/appliance", "-printf", r"%u %y %m %l\n")
    entries = [line.split() for line in found.splitlines()]
    assert {owner for owner, *_ in entries} == {"appliance"}
    assert not [each for each in entries if each[1] != "l" and each[2][-2:] != "00"]
    # A link has no mode of its own. They lead to the modules of RabbitMQ and Erlang.
    links = [target for _, kind, _, *target in entries if kind == "l"]
    assert all(target.startswith("/usr/lib/") for (target,) in links)


def test_settings_are_a_file_and_a_restart_away(host):
    assert "127.0.0.1:8080" in host.run("appliance", "config")
    host.run("sed", "-i", "s/^#APPLIANCE_HTTP=.*/APPLIANCE_HTTP=0.0.0.0:8080/",
             "/etc/appliance/appliance.env")  # fmt: skip
    host.run("systemctl", "restart", "appliance.target")
    host.wait_ready()
    assert re.search(r"APPLIANCE_HTTP +0\.0\.0\.0:8080", host.run("appliance", "config"))


def test_a_message_from_outside_becomes_a_row(host):
    host.store("orders", "two of those")
    assert host.bodies("orders") == ["two of those"]


def test_the_command_line_finds_the_service_and_steps_down_to_its_user(host):
    assert "ready" in host.run("appliance", "status").splitlines()[0]
    # A file that only root can read; root's own rights are needed to send it.
    host.run("sh", "-c", "umask 077; printf 'a\\nb\\nc\\n' > /root/lines")
    host.run("appliance", "publish", "lines", "--file", "/root/lines", "--wait")
    assert host.bodies("lines") == ["a", "b", "c"]
    host.run("appliance", "backup")
    owner = host.run("sh", "-c", "stat -c '%U %a' /var/lib/appliance/backups/*.db")
    assert owner.split() == ["appliance", "600"]


def test_commands_for_operators_work_on_the_host_as_it_is(host):
    host.run("appliance", "doctor")
    host.run("appliance", "verify")
    said = host.run("appliance", "drill", "--for", "10s", "--rate", "50")
    print(said)
    copy = host.run("sh", "-c", "ls /var/lib/appliance/backups/appliance-*.db").strip()
    host.run("systemctl", "stop", "appliance.target", "appliance-*.service")
    host.run("appliance", "restore", copy, "--yes")
    host.run("systemctl", "start", "appliance.target")
    host.wait_ready()
    assert host.bodies("lines") == ["a", "b", "c"]
    owners = host.run("find", "/var/lib/appliance", "-printf", r"%u\n").split()
    assert set(owners) == {"appliance"}


def test_a_timer_makes_backups_and_keeps_as_many_as_it_shall(host):
    host.run("systemctl", "enable", "--now", "appliance-backup.timer")
    assert host.show("appliance-backup.timer", "ActiveState") == "active"
    host.run("systemctl", "start", "appliance-backup.service")
    made = host.run("sh", "-c", "ls /var/lib/appliance/backups/scheduled-*.db").split()
    assert len(made) == 1
    host.run("systemctl", "disable", "--now", "appliance-backup.timer")


def test_a_user_who_is_not_root_is_told_how_to_use_the_command_line(host):
    said = host.run("setpriv", "--reuid=nobody", "--clear-groups", "--regid=nogroup",
                    "appliance", "status", check=False)  # fmt: skip
    assert "use sudo, or set APPLIANCE_TOKEN" in said


def test_the_list_of_processes_comes_from_systemd(host):
    found = host.processes()
    assert {name: found[name]["pid"] for name in SERVICES} == host.pids()
    assert {found[name]["state"] for name in SERVICES} == {"RUNNING"}
    assert found["migrate"]["state"] == "EXITED"
    assert found["api"]["uptime_seconds"] > 0
    assert "accepting" in found["api"]["detail"]


def test_status_says_in_a_line_what_a_service_does(host):
    assert "accepting" in host.show(host.unit("api"), "StatusText")
    assert "stored in the last minute" in host.show(host.unit("worker@0"), "StatusText")


def test_the_journal_has_levels_and_fields(host):
    def entries(*matches):
        lines = host.run("journalctl", "--no-pager", "--output=json", *matches).splitlines()
        return [json.loads(line) for line in lines]

    database = "APPLIANCE_PATH=/var/lib/appliance/appliance.db"
    ready = entries("SYSLOG_IDENTIFIER=appliance-migrate", database)[0]
    assert ready["MESSAGE"].startswith("database ready")
    assert ready["PRIORITY"] == "6"
    # Ours about it are of level info; RabbitMQ's own begin at warning.
    broker = entries("_SYSTEMD_UNIT=appliance-broker.service", "SYSLOG_IDENTIFIER=appliance-broker")
    assert {"4", "6"} <= {entry["PRIORITY"] for entry in broker}


def test_debians_own_broker_is_neither_used_nor_disturbed(host):
    assert debians_own(host)[0] == "active"
    before = debians_own(host)
    host.run("systemctl", "restart", "appliance-broker.service")
    host.wait_ready()
    assert debians_own(host) == before
    command = host.run("cat", f"/proc/{host.pid('broker')}/cmdline")
    assert "appliance@localhost" in command
    host.run("systemctl", "stop", "rabbitmq-server.service")
    host.store("alone", "without Debian's own broker")
    host.run("systemctl", "start", "rabbitmq-server.service")
    assert debians_own(host)[0] == "active"


@pytest.mark.parametrize(
    "service",
    ["broker", "migrate", "api", "worker@0", "janitor", "deliver", "handle@0", "supervisord"],
)
def test_a_unit_gives_its_program_next_to_no_rights(host, service):
    said = host.run("systemd-analyze", "security", "--no-pager", host.unit(service), check=False)
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    print(f"exposure of {service}: {exposure}")
    assert exposure <= MOST_EXPOSED.get(service, MOST_EXPOSED_PYTHON)


def test_systemd_has_nothing_to_say_against_the_installed_units(host):
    units = [host.unit(service) for service in (*SERVICES, "migrate", "supervisord")]
    said = host.run("systemd-analyze", "verify", "--man=no", "appliance.target", *units)
    assert said == ""


def test_no_service_runs_as_root(host):
    for service, pid in host.pids().items():
        status = host.run("cat", f"/proc/{pid}/status")
        users = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)[1].split()
        assert "0" not in users, service
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE), service
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), service


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_back_and_nothing_is_lost(host, service):
    host.store("killed", f"before {service}")
    before = host.pid(service)
    begin = time.monotonic()
    host.run("kill", "-KILL", str(before))
    wait_until(
        lambda: host.active(service) and host.pid(service) not in (0, before),
        f"{service} is back",
        PATIENCE,
    )
    host.wait_ready()
    print(f"{service}: ready {time.monotonic() - begin:.1f} s after it was killed")
    host.store("killed", f"after {service}")
    assert host.bodies("killed")[-2:] == [f"before {service}", f"after {service}"]


def test_all_services_killed_at_once_under_load_are_back_and_lose_nothing(host, tmp_path):
    with loaded(host, "all-killed", tmp_path) as load:
        load.wait_accepted(100, PATIENCE)
        before = host.pids()
        host.run("systemctl", "kill", "--signal=KILL", *map(host.unit, SERVICES))
        for service in SERVICES:
            wait_until(
                lambda one=service: host.active(one) and host.pid(one) not in (0, before[one]),
                f"{service} is back",
                PATIENCE,
            )
        load.wait_accepted(100, PATIENCE)


def test_a_service_that_hangs_is_restarted(host):
    before = host.pids()
    begin = time.monotonic()
    host.run("kill", "-STOP", *(str(pid) for pid in before.values()))
    for service in SERVICES:
        wait_until(
            lambda one=service: host.active(one) and host.pid(one) not in (0, before[one]),
            f"{service} is back",
            2 * PATIENCE,
        )
    host.wait_ready()
    print(f"all five hung; ready {time.monotonic() - begin:.1f} s later")
    host.store("hung", "after")
    journal = host.run("journalctl", "--no-pager", "--unit=appliance-*")
    for service in SERVICES:
        assert re.search(rf"appliance-{service}\.service: Watchdog timeout", journal), service


def test_the_target_stops_all_of_it_with_the_broker_last(host):
    host.run("systemctl", "stop", "appliance.target")
    for service in SERVICES:
        wait_until(
            lambda one=service: host.show(host.unit(one), "ActiveState") == "inactive",
            f"{service} has stopped",
            PATIENCE,
        )
    ended = {
        service: int(host.show(host.unit(service), "InactiveEnterTimestampMonotonic"))
        for service in SERVICES
    }
    assert max(ended, key=ended.get) == "broker"
    results = {host.show(host.unit(service), "Result") for service in SERVICES}
    assert results == {"success"}


def test_the_target_starts_all_of_it_and_then_it_is_ready(host):
    begin = time.monotonic()
    host.run("systemctl", "start", "appliance.target")
    started = time.monotonic() - begin
    assert all(host.active(service) for service in SERVICES)
    ready = started + host.wait_ready()
    print(f"systemctl start took {started:.1f} s; ready after {ready:.1f} s")
    host.store("target", "started")


def test_an_upgrade_keeps_data_and_settings_and_restarts_all_of_it(host, current):
    host.store("upgrade", "before")
    before, token = host.pids(), host.run("appliance", "token")
    begin = time.monotonic()
    host.install(current)
    host.wait_ready()
    print(f"upgraded and ready in {time.monotonic() - begin:.1f} s")
    after = host.pids()
    assert not [service for service in SERVICES if after[service] in (0, before[service])]
    assert host.run("appliance", "token") == token
    host.store("upgrade", "after")
    assert host.bodies("upgrade") == ["before", "after"]
    times = {
        service: int(host.show(host.unit(service), "ExecMainStartTimestampMonotonic"))
        for service in (*SERVICES, "migrate")
    }
    assert times["migrate"] < min(times[name] for name in SERVICES if name != "broker")
    assert times["broker"] < times["api"]


def test_a_broker_whose_files_were_replaced_is_restarted(host):
    before = host.pid("broker")
    host.apt("install", "--reinstall", "rabbitmq-server")
    wait_until(lambda: host.pid("broker") not in (0, before), "a new broker", PATIENCE)
    host.wait_ready()
    host.store("replaced", "after")


def test_supervisord_takes_over(host):
    host.run("systemctl", "start", "appliance-supervisord.service")
    host.wait_ready()
    assert not any(host.active(service) for service in SERVICES)
    assert "RUNNING" in host.run("appliance", "ctl", "status", "api")
    assert host.processes()["worker:worker_0"]["state"] == "RUNNING"
    host.store("supervisord", "hello")


@pytest.mark.parametrize("whom", ["main", "all"])
def test_supervisord_that_is_killed_under_load_is_started_again_and_loses_nothing(
    host, tmp_path, whom
):
    """Alone, and with every process of its unit."""
    with loaded(host, f"supervisord-{whom}", tmp_path) as load:
        load.wait_accepted(100, PATIENCE)
        before = host.pid("supervisord")
        host.run("systemctl", "kill", f"--kill-who={whom}", "--signal=KILL",
                 host.unit("supervisord"))  # fmt: skip
        wait_until(
            lambda: host.active("supervisord") and host.pid("supervisord") not in (0, before),
            "a new supervisord",
            PATIENCE,
        )
        load.wait_accepted(100, PATIENCE)


def test_supervisord_gives_back(host):
    host.run("systemctl", "start", "appliance.target")
    host.wait_ready()
    assert not host.active("supervisord")
    assert host.bodies("supervisord") == ["hello"]
    assert host.processes()["worker@0"]["state"] == "RUNNING"


def test_removing_it_stops_it_and_leaves_settings_and_data(host):
    host.apt("remove", "queue-appliance")
    assert host.show("appliance.target", "ActiveState") == "inactive"
    assert not host.run("pgrep", "--euid", "appliance", check=False).strip()
    host.run("test", "-s", "/var/lib/appliance/appliance.db")
    host.run("grep", "^APPLIANCE_HTTP=0.0.0.0:8080", "/etc/appliance/appliance.env")
    host.run("test", "!", "-e", "/opt/appliance")
    assert debians_own(host)[0] == "active"


def test_installing_it_again_finds_settings_and_rows(host, current):
    host.install(current)
    host.wait_ready()
    assert host.bodies("orders") == ["two of those"]


def test_purging_it_says_that_the_messages_are_left(host):
    said = host.apt("purge", "queue-appliance")
    assert "Left: /var/lib/appliance with every message" in said
    host.run("test", "-s", "/var/lib/appliance/appliance.db")
    host.run("test", "!", "-e", "/etc/appliance")
    assert not host.run("find", "/etc/systemd/system", "-name", "appliance*")
