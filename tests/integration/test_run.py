"""`appliance run`, from outside: as a terminal, a container engine and a user's shell see it."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import APPLIANCE, START_SECONDS, environment, wait_until
from supervised import Appliance, in_session

from appliance import config as configuration
from appliance.supervision import processes

PROGRAMS = [
    *("listener", "broker", "worker:worker_0", "worker:worker_1", "api", "janitor", "deliver"),
]


@pytest.fixture
def appliance(tmp_path) -> Iterator[Callable[..., Appliance]]:
    made = []

    def make(folder: Path = tmp_path, **settings: str) -> Appliance:
        made.append(Appliance(folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.clear()


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Appliance]:
    """One that runs for the tests that leave it running."""
    one = Appliance(tmp_path_factory.mktemp("run")).start()
    try:
        yield one.wait_ready()
        assert one.end() == 0
    finally:
        one.clear()


@pytest.fixture
def running(shared) -> Appliance:
    return shared.wait_ready()


def test_everything_runs_and_a_message_becomes_a_row(running):
    running.publish("first", "hello")
    running.stored("first", "hello")
    expected = {**dict.fromkeys(PROGRAMS, "RUNNING"), "migrate": "EXITED"}
    # A program is called RUNNING when it has stayed up for its startsecs.
    wait_until(lambda: running.states() == expected, "all run", 20, lambda: str(running.states()))


def test_the_welcome_has_the_address_the_token_and_a_line_that_works(running):
    welcome = running.errors_path.read_text()
    assert f"http://{running.http}" in welcome
    assert str(running.data / "token") in welcome
    line = re.search(r"^ +try +(curl .*)$", welcome, re.MULTILINE)[1]
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, timeout=30)
    assert json.loads(done.stdout)["topic"] == "test"
    running.stored("test", "hello")


def test_every_line_of_the_output_is_json_and_names_its_process(running):
    lines = [json.loads(line) for line in running.log_path.read_text().splitlines()]
    assert {"supervisord", "migrate", "worker", "api"} <= {x.get("process") for x in lines}
    assert any(x.get("process") == "broker" and "release" in x for x in lines)


def test_the_command_line_finds_the_appliance_that_runs_on_the_same_data(running):
    env = environment(running.data)  # neither APPLIANCE_URL nor APPLIANCE_HTTP
    done = subprocess.run(
        [APPLIANCE, "status"], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("appliance ")
    assert f"at {running.url}: ready" in done.stdout


def test_the_end_of_the_start_is_said_once_with_the_address(running):
    wait_until(lambda: "Ready after" in running.errors_path.read_text(), "the notice", 20)
    welcome = running.errors_path.read_text()
    assert welcome.count("Ready after") == 1
    assert f"  address  {running.url}\n" in welcome.partition("Ready after")[2]


def test_ctl_names_the_group_that_was_meant(running):
    done = running.cli("ctl", "restart", "worker")
    assert done.returncode == 2
    assert "did you mean 'worker:*'?" in done.stderr


def test_ctl_restarts_all_processes_of_the_api_by_the_same_name_be_it_one(running):
    before = running.pid("api")
    done = running.cli("ctl", "restart", "api:*")
    assert (done.returncode, done.stdout) == (0, "api: stopped\napi: started\n"), done.stderr
    assert running.pid("api") not in (None, before)


def test_the_data_folder_is_closed_to_other_users(running):
    folders = [running.data, running.data / "run", running.data / "run" / "supervisor.sock"]
    assert [oct(path.stat().st_mode & 0o777) for path in folders] == ["0o700"] * 3
    files = [p for p in running.data.rglob("*") if p.is_file()]
    assert not [p for p in files if not p.is_symlink() and p.stat().st_mode & 0o077]
    # Links lead to nothing of ours: to modules of the RabbitMQ and the Erlang that are installed.
    assert not [p for p in files if p.is_symlink() and not p.readlink().is_relative_to("/usr/lib")]


def test_ctl_works_with_nothing_but_the_data_folder(running):
    env = environment(running.data)
    done = subprocess.run(
        [APPLIANCE, "ctl", "status", "api"], env=env, capture_output=True, text=True, check=False
    )
    assert "RUNNING" in done.stdout


def test_ctl_tail_shows_what_a_program_said(running):
    for program in ("broker", "worker:worker_0", "api"):
        assert "{" in running.ctl("tail", program)


def test_ctl_restarts_the_workers(running):
    before = [running.pid("worker:worker_0"), running.pid("worker:worker_1")]
    running.ctl("restart", "worker:*")
    after = [running.pid("worker:worker_0"), running.pid("worker:worker_1")]
    assert None not in after
    assert not set(before) & set(after)
    running.publish("restarted", "a")
    running.stored("restarted", "a")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_killed_comes_back_as_a_new_process(running, program):
    """Waits for the program's start; RabbitMQ's takes seconds."""
    before = running.pid(program)
    os.kill(before, signal.SIGKILL)
    wait_until(
        lambda: running.pid(program) not in (None, before),
        f"a new {program}",
        60,
        lambda: running.log,
    )
    running.wait_ready()
    topic = program.replace(":", ".")
    running.publish(topic, "after the kill")
    running.stored(topic, "after the kill")


@pytest.mark.slow
@pytest.mark.parametrize("program", ["worker:worker_0", "api", "broker"])
def test_a_program_that_is_restarted_over_http_comes_back_and_its_log_can_be_read(running, program):
    token = {"Authorization": f"Bearer {running.token}"}
    wait_until(lambda: running.states()[program] == "RUNNING", "it runs", START_SECONDS)
    before = running.pid(program)
    answer = running.client.post(f"/v1/processes/{program}/restart", headers=token)
    assert answer.status_code == 202
    wait_until(lambda: running.pid(program) not in (None, before), "a new process", START_SECONDS)
    running.wait_ready()
    topic = f"restarted.{program.replace(':', '.')}"
    running.publish(topic, "a")
    running.stored(topic, "a")
    log = running.client.get(f"/v1/logs/{program}?lines=20", headers=token).json()
    assert (log["process"], log["source"]) == (program, "file")
    assert log["lines"]


def test_reading_the_configuration_anew_keeps_the_lock_and_the_logs(running):
    """A hang-up without a terminal: supervisord restarts every program, RabbitMQ too."""
    before = running.pid("api")
    started = running.log_path.read_text().count("spawned: 'listener'")
    running.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: running.pid("api") not in (None, before), "a new API", 60)
    running.wait_ready()
    assert running.cli("run").returncode == 78
    assert "received SIGHUP" in running.log_path.read_text()
    assert running.log_path.read_text().count("spawned: 'listener'") == started + 1


@pytest.mark.parametrize("program", [each for each in PROGRAMS if each != "broker"])
def test_a_program_shares_its_code_with_supervisord_and_has_its_own_name(running, program):
    wait_until(lambda: running.states()[program] == "RUNNING", "it runs", START_SECONDS)
    process = Path(f"/proc/{running.pid(program)}")
    name = program.partition(":")[0]
    assert (process / "cmdline").read_text().rstrip(" \0") == f"appliance {name}"
    lines = (process / "smaps_rollup").read_text().splitlines()[1:]
    kib = {key: int(value.split()[0]) for key, value in (line.split(":") for line in lines)}
    # Written by supervisord, and by nobody since: of a program that loads its own code it is none.
    assert kib["Shared_Dirty"] > 16 * 1024


def test_supervisord_has_one_thread_so_that_it_can_fork(running):
    assert len(list(Path(f"/proc/{running.popen.pid}/task").iterdir())) == 1


def test_the_processes_are_told_to_programs_as_well(running):
    config = configuration.load(environment(running.data))
    states = {state.name: state for state in processes.read(config)}
    assert set(states) == {*PROGRAMS, "migrate"}
    assert states["migrate"].state == "EXITED"
    assert states["migrate"].pid is None
    pid = re.search(r"^api +RUNNING +pid (\d+)", running.ctl("status"), re.MULTILINE)[1]
    assert states["api"].pid == int(pid)
    assert 0 <= states["api"].uptime_seconds < 600


def test_a_second_one_on_the_same_data_is_refused(running):
    done = running.cli("run")
    assert done.returncode == 78
    assert "APPLIANCE_DATA" in done.stderr
    assert f"process {running.popen.pid}" in done.stderr
    running.wait_ready()


def test_a_port_that_is_taken_is_named_before_anything_starts(appliance):
    one = appliance()
    with socket.socket() as taken:
        host, port = one.http.split(":")
        taken.bind((host, int(port)))
        taken.listen()
        done = one.cli("run")
    assert done.returncode == 78
    assert done.stderr.startswith(f"appliance: APPLIANCE_HTTP: can't listen on {one.http}")
    assert not (one.data / "broker").exists()


def test_a_broker_port_that_was_asked_for_and_is_taken_is_named(appliance):
    one = appliance()
    with socket.socket() as taken:
        host, port = one.settings["APPLIANCE_AMQP"].split(":")
        taken.bind((host, int(port) + 20_000))
        taken.listen()
        done = one.cli("run")
    assert done.returncode == 78
    assert done.stderr.startswith("appliance: APPLIANCE_AMQP")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APPLIANCE_WORKERS", "many"),
        ("APPLIANCE_RUN", "/tmp/" + "long/" * 20),
        ("APPLIANCE_RUN", "/tmp/100%/run"),
        ("APPLIANCE_DATA", "/proc/nothing"),
        ("APPLIANCE_HTTP", "240.0.0.1:80"),
        ("APPLIANCE_HTTP", "no-such-host.invalid:80"),
    ],
)
def test_a_setting_that_can_not_work_ends_it_with_78(appliance, name, value):
    done = appliance(**{name: value}).cli("run")
    assert done.returncode == 78
    assert done.stderr.startswith(f"appliance: {name}: ")


def test_ctl_without_an_appliance_says_so(appliance):
    done = appliance().cli("ctl", "status")
    assert done.returncode == 69
    assert "is the appliance running" in done.stderr


def test_percent_signs_in_the_environment_break_nothing(appliance):
    one = appliance(
        APPLIANCE_TOKEN="100%(sure)s%d%%-and-more", LS_COLORS="%", APPLIANCE_WORKERS="1"
    )
    one.start().wait_ready()
    assert "100%(sure)s" not in "".join(
        p.read_text() for p in one.data.rglob("*") if p.suffix in (".conf", ".json", ".log")
    )
    assert one.end() == 0


@pytest.mark.slow
def test_a_second_start_finds_all_the_data(appliance):
    """Starts RabbitMQ twice."""
    one = appliance(APPLIANCE_WORKERS="1")
    one.start().wait_ready()
    token = (one.data / "token").read_text()
    one.ctl("stop", "worker:*")
    one.publish("kept", "queued")
    assert one.end(signal.SIGINT) == 0
    one.start().wait_ready()
    one.publish("kept", "later")
    one.stored("kept", "queued", "later")
    assert (one.data / "token").read_text() == token
    assert one.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["broker starting", "listening", "new queue settling"])
def test_an_end_asked_for_during_the_start_is_clean(appliance, moment):
    """Starts RabbitMQ, or nearly; only that may need killing, on a machine that is very busy."""
    one = appliance().start()
    wait_until(lambda: moment in one.log, moment, START_SECONDS, lambda: one.log)
    assert one.end(signal.SIGINT) == 0
    assert not re.search(r"killing '(?!broker)", one.log)


@pytest.mark.slow
def test_programs_of_a_supervisord_that_was_killed_end_and_the_next_run_waits(appliance):
    """Waits for RabbitMQ to end and starts it again."""
    one = appliance(APPLIANCE_WORKERS="1")
    one.start().wait_ready()
    one.publish("kept", "before")
    session = one.session
    one.popen.kill()
    one.popen.wait()
    one.start()
    wait_until(lambda: in_session(session) == [], "the orphans end", 30)
    one.wait_ready()  # the API of before could have answered for the new one
    one.publish("kept", "after")
    one.stored("kept", "before", "after")
    assert one.end() == 0


def test_a_failed_migration_ends_everything_with_status_3(appliance):
    one = appliance()
    one.data.mkdir(parents=True)
    (one.data / "appliance.db").write_text("this is no database" * 1000)
    assert one.start().wait_end(60) == 3
    assert "migrate was given up" in one.errors_path.read_text()


@pytest.mark.slow
def test_a_program_that_never_starts_ends_everything_with_status_3(appliance):
    """Waits until supervisord has tried often enough."""
    one = appliance().start()
    wait_until(lambda: one.pid("api"), "the API runs", 60, lambda: one.log)
    one.ctl("stop", "api")
    with socket.socket() as taken:
        host, port = one.http.split(":")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, int(port)))
        taken.listen()
        one.cli("ctl", "start", "api")
        assert one.wait_end(120) == 3
    assert "api was given up" in one.errors_path.read_text()


@pytest.mark.slow
def test_an_end_asked_for_while_a_program_fails_is_clean(appliance):
    """Waits until supervisord waits before the next try; a stop makes the program FATAL then."""
    one = appliance(APPLIANCE_WORKERS="1").start()
    wait_until(lambda: one.pid("api"), "the API runs", 60, lambda: one.log)
    one.ctl("stop", "api")
    with socket.socket() as taken:
        host, port = one.http.split(":")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, int(port)))
        taken.listen()
        one.cli("ctl", "start", "api")
        wait_until(lambda: one.states()["api"] == "BACKOFF", "the API fails", 30, lambda: one.log)
        assert one.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["Ctrl-C", "closed window"])
def test_a_run_in_a_terminal_speaks_text_and_ends_with_it(appliance, ending):
    """Starts RabbitMQ; the end of a window is a hang-up signal."""
    controller, terminal = pty.openpty()
    one = appliance(APPLIANCE_WORKERS="1")

    def own_terminal():
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    one.start(stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=own_terminal)
    os.close(terminal)
    seen = read_for(controller, until=lambda text: "Ctrl-C" in text)
    assert one.ready()
    assert f"http://{one.http}" in seen
    assert re.search(r"^api +\d\d:\d\d:\d\d listening address=", seen, re.MULTILINE)
    assert "process=" not in seen
    assert '{"event"' not in seen
    notice = re.search(
        r"^Ready after \d+ s\.\n  address  (.*)\n  console  .*\n  stop     Ctrl-C",
        seen,
        re.MULTILINE,
    )
    assert notice[1] == one.url
    one.publish("seen", "hello")
    read_for(controller, until=lambda text: "messages stored count=1 topics='seen 1'" in text)
    if ending == "Ctrl-C":
        os.write(controller, b"\x03")
        read_for(controller, until=lambda _: one.popen.poll() is not None)
        os.close(controller)
    else:
        os.close(controller)
    assert one.wait_end(45) == 0


def read_for(controller: int, until: Callable[[str], bool]) -> str:
    """Read what a terminal shows until something holds for the text; return the text."""
    seen = b""
    deadline = time.monotonic() + START_SECONDS
    while not until(text := seen.decode(errors="replace").replace("\r\n", "\n")):
        assert time.monotonic() < deadline, text
        if select.select([controller], [], [], 0.1)[0]:
            try:
                seen += os.read(controller, 65536)
            except OSError:  # nobody has the terminal open any more
                time.sleep(0.1)
    return text
