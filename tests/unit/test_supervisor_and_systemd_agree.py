"""supervisor/ and systemd/ say the same about each program."""

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance import config
from appliance.cli.host import read_settings
from appliance.machine import cores

ROOT = Path(__file__).parents[2]
SUPERVISOR = ROOT / "supervisor"
SYSTEMD = ROOT / "systemd"
#: Needed only where supervisord stays up although a program was given up.
ONLY_UNDER_SUPERVISORD = {"listener"}
#: The API's further processes: the same program, but for their number. By default there are as many
#: as the machine's cores are worth.
FURTHER = "api-further"
FURTHER_UNIT = "appliance-api@.service"
#: What systemd runs instead of all the others, on the administrator's wish.
ALTERNATIVE = "appliance-supervisord.service"
#: What a timer starts, where it is enabled; under supervisord the janitor does it by itself.
BACKUP = "appliance-backup.service"
COMMON = SYSTEMD / "appliance-.service.d" / "10-common.conf"
EXECUTABLE = "/opt/appliance/bin/appliance"

UNIT_SUFFIXES = {".service", ".target", ".timer"}

Directive = tuple[str, str, str]


@dataclass(frozen=True)
class Program:
    """What both sides say about one program."""

    command: str
    count: int
    restarts: str
    stop_signal: str
    stop_seconds: int
    once: bool


def ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";", "#"))
    parser.read_string(path.read_text())
    return parser


def under_supervisord() -> dict[str, Program]:
    programs = {}
    for path in sorted((SUPERVISOR / "conf.d").glob("*.conf")):
        parser = ini(path)
        (section,) = parser.sections()
        name = section.split(":")[1]
        assert re.fullmatch(rf"\d\d-{name}\.conf", path.name)
        values = parser[section]
        if name == FURTHER:
            assert {**values} == {**ini(SUPERVISOR / "conf.d" / "40-api.conf")["program:api"]} | {
                "process_name": "api_%(process_num)d",
                "numprocs": "%(ENV_FURTHER_API_PROCESSES)s",
                "numprocs_start": "1",
                "priority": "41",
                "stdout_logfile": "%(ENV_APPLIANCE_RUN)s/log/api_%(process_num)d.log",
            }
            continue
        count = values.get("numprocs", "1")
        for name_of_setting in ("APPLIANCE_WORKERS", "APPLIANCE_HANDLER_PROCESSES"):
            count = count.replace(f"%(ENV_{name_of_setting})s", default(name_of_setting))
        programs[name] = Program(
            command=values["command"],
            count=int(count),
            restarts={"true": "always", "false": "no"}[values["autorestart"]],
            stop_signal=f"SIG{values['stopsignal']}",
            stop_seconds=int(values["stopwaitsecs"]),
            once=values["startsecs"] == "0",
        )
    return programs


def under_systemd() -> dict[str, Program]:
    wanted = [
        unit
        for section, name, value in directives(SYSTEMD / "appliance.target")
        if (section, name) == ("Unit", "Wants")
        for unit in value.split()
    ]
    programs = {}
    for unit in sorted({re.sub(r"@\d+\.", "@.", unit) for unit in wanted} - {FURTHER_UNIT}):
        service = service_of(SYSTEMD / unit)
        name = re.fullmatch(r"appliance-(\w+)@?\.service", unit)[1]
        programs[name] = Program(
            command=service["ExecStart"].replace(EXECUTABLE, "appliance"),
            count=sum(re.sub(r"@\d+\.", "@.", one) == unit for one in wanted),
            restarts=service["Restart"],
            stop_signal=service["KillSignal"],
            stop_seconds=int(service["TimeoutStopSec"]),
            once=service["Type"] == "oneshot",
        )
    return programs


def directives(path: Path) -> Iterator[Directive]:
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, value = line.split("=", 1)
            yield section, name, value


def service_of(unit: Path) -> dict[str, str]:
    """What a service has under [Service], with what all of them have in common."""
    return {n: v for path in (unit, COMMON) for s, n, v in directives(path) if s == "Service"}


def default(name: str) -> str:
    return next(s.default for s in config.settings() if s.name == name)


def units() -> list[Path]:
    return sorted(
        path for kind in ("service", "target", "timer") for path in SYSTEMD.glob(f"*.{kind}")
    )


def test_both_run_the_same_programs_in_the_same_way():
    supervised = under_supervisord()
    assert set(supervised) >= ONLY_UNDER_SUPERVISORD
    for name in ONLY_UNDER_SUPERVISORD:
        del supervised[name]
    assert under_systemd() == supervised


def test_each_program_is_one_flagless_command():
    for name, program in (under_supervisord() | under_systemd()).items():
        assert program.command == f"appliance {name}"


def test_the_further_processes_of_the_api_are_as_the_first_one():
    text = (SYSTEMD / FURTHER_UNIT).read_text()
    asked = re.search(r"^ExecCondition=(.*)\n", text, re.MULTILINE)
    assert asked[1] == "/opt/appliance/bin/python -m appliance.supervision.wanted %i"
    first = (SYSTEMD / "appliance-api.service").read_text()
    assert text.replace(asked[0], "").replace(", process %i", "") == first
    target = (SYSTEMD / "appliance.target").read_text()
    wanted = re.findall(r"appliance-api@(\d+)\.service", target)
    assert wanted == [str(number) for number in range(1, cores.MOST_API_PROCESSES)]
    group = ini(SUPERVISOR / "supervisord.conf")["group:api"]
    assert {**group} == {"programs": f"api,{FURTHER}", "priority": "40"}


@pytest.mark.parametrize(
    ("number", "processes", "status"), [("1", "1", 1), ("1", "2", 0), ("2", "2", 1), ("1", "x", 1)]
)
def test_a_further_process_of_the_api_is_wanted_if_there_are_so_many(number, processes, status):
    done = subprocess.run(
        [sys.executable, "-m", "appliance.supervision.wanted", number],
        env=os.environ | {"APPLIANCE_API_PROCESSES": processes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)


def test_the_timer_makes_scheduled_backups():
    service = service_of(SYSTEMD / BACKUP)
    assert service["ExecStart"] == f"{EXECUTABLE} backup --scheduled"
    assert service["Type"] == "oneshot"
    timer = {n for s, n, _ in directives(SYSTEMD / "appliance-backup.timer") if s == "Timer"}
    assert {"OnCalendar", "Persistent"} <= timer


def test_two_workers_run_unless_told_otherwise():
    assert under_supervisord()["worker"].count == 2


def test_every_unit_is_wanted_by_the_target():
    named = {f"appliance-{name}.service" for name in under_systemd()}
    found = {u.name.replace("@", "") for u in SYSTEMD.glob("*.service")}
    assert found == named | {ALTERNATIVE, BACKUP}  # the API's two are one name


def test_supervisord_and_the_units_exclude_one_another_by_declaration():
    excluded = {
        unit
        for _, name, value in directives(SYSTEMD / ALTERNATIVE)
        if name == "Conflicts"
        for unit in value.split()
    }
    wanted = {
        unit
        for _, name, value in directives(SYSTEMD / "appliance.target")
        if name == "Wants"
        for unit in value.split()
    }
    assert excluded == {"appliance.target", *wanted}


def test_the_alternative_runs_all_of_it_and_has_the_time_to_stop_it():
    service = service_of(SYSTEMD / ALTERNATIVE)
    assert service["ExecStart"] == f"{EXECUTABLE} run"
    assert int(service["TimeoutStopSec"]) > sum(
        p.stop_seconds for p in under_supervisord().values()
    )


def test_supervisord_starts_them_in_the_order_of_their_files():
    paths = sorted((SUPERVISOR / "conf.d").glob("*.conf"))
    priorities = [int(ini(p)[ini(p).sections()[0]]["priority"]) for p in paths]
    assert priorities == [int(p.name[:2]) for p in paths]


def test_stop_times_add_up_to_what_is_said():
    text = (SUPERVISOR / "supervisord.conf").read_text()
    said = int(re.search(r"= (\d+) seconds\.", text)[1])
    stop_timeout = int(re.search(r"--stop-timeout (\d+)", text)[1])
    assert sum(p.stop_seconds for p in under_supervisord().values()) == said < stop_timeout


def test_all_run_as_one_user_that_the_package_declares():
    users = (SYSTEMD / "appliance.sysusers.conf").read_text()
    declared = re.search(r"^u +(\S+) ", users, re.MULTILINE)[1]
    for unit in SYSTEMD.glob("*.service"):
        service = service_of(unit)
        assert (service["User"], service["Group"]) == (declared, declared)
    # Under supervisord they run as whoever starts it; the image starts it as the same user.
    for path in (SUPERVISOR / "conf.d").glob("*.conf"):
        assert "user" not in ini(path)[ini(path).sections()[0]]


def test_no_socket_of_supervisord_is_open_to_others():
    parser = ini(SUPERVISOR / "supervisord.conf")
    assert parser["unix_http_server"]["chmod"] == "0700"
    assert not [s for s in parser.sections() if s.startswith("inet_http_server")]


def test_the_environment_file_lists_every_setting_and_nothing_else():
    lines = (SYSTEMD / "appliance.env").read_text().splitlines()
    on_a_host = read_settings((SYSTEMD / "host.env",))
    assert set(on_a_host) <= {s.name for s in config.settings()}
    expected = []
    for setting in config.settings():
        default = on_a_host.get(setting.name, setting.default)
        expected += ["", f"# {setting.help}", f"#{setting.name}={default}"]
    assert lines[lines.index("") :] == expected
    assert all(line.startswith("# ") for line in lines[: lines.index("")])


def test_the_hosts_settings_are_ones_that_work():
    found = config.load(read_settings((SYSTEMD / "host.env",)))
    service = service_of(SYSTEMD / "appliance-api.service")
    assert found.data.name == service["StateDirectory"]
    assert found.run_folder.name == service["RuntimeDirectory"]
    assert found.amqp.port != 5672, "where Debian's own RabbitMQ listens"


def test_the_readme_explains_every_directive():
    readme = (SYSTEMD / "README.md").read_text()
    files = [*units(), *SYSTEMD.glob("*.d/*.conf")]
    used = {name for unit in files for _, name, _ in directives(unit)}
    assert {name for name in used if f"`{name}=" not in readme} == set()


@pytest.mark.parametrize("unit", units(), ids=lambda unit: unit.name)
def test_the_readme_names_every_unit(unit: Path):
    assert f"`{unit.name}`" in (SYSTEMD / "README.md").read_text()


def test_systemd_has_nothing_to_say_against_the_units():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "setup_host.py", "--units"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
