"""Too little of what a machine shares out: time, memory, processes, open files; under load."""

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from engine import HARDENED, START_SECONDS, docker, wait_until
from harness import Folder, environment
from test_container import Boxed, Target

pytestmark = pytest.mark.slow

#: Runs in the container: takes its memory until the kernel has killed the process with this id,
#: which it has named the first to go.
HOG = """
import os, sys
pid = int(sys.argv[1])
with open(f"/proc/{pid}/oom_score_adj", "w") as score:
    score.write("1000")
def lives():
    try:
        with open(f"/proc/{pid}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
held = []
while lives():
    held.append(b"x" * 4 * 2**20)
    if len(held) > 1000:
        sys.exit("it has taken 4 GiB, and nothing was killed")
"""
#: Runs in the container: prints the id of the first process whose command line has these words.
FIND = """
import os, sys
for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
    with open(f"/proc/{pid}/cmdline", "rb") as line:
        words = line.read().replace(b"\\0", b" ")
    if pid != os.getpid() and sys.argv[1].encode() in words:
        print(pid)
        break
"""


@pytest.fixture(scope="module")
def shared_box():
    """A container with limits that can be changed while it runs."""
    volume = f"appliance-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", volume)
    box = Boxed(volume, *HARDENED, "--memory", "1g", "--memory-swap", "1g", "--pids-limit", "1000")
    try:
        yield box.wait_ready(), Target(box)
    finally:
        box.remove()
        docker("volume", "rm", "--force", volume, check=False)


@pytest.fixture
def boxed_load(shared_box, under_load, tmp_path):
    """Returns the container, and a load on it that a backup is compared with afterwards."""
    box, target = shared_box
    load = under_load(target)
    yield box.wait_ready(), load
    box.wait_ready()
    box.drained(*target.loads)
    box.exec("appliance", "verify")
    backup = f"/data/{uuid.uuid4().hex}.db"
    box.exec("appliance", "backup", backup)
    kept = Folder()
    kept.data = tmp_path / "data"
    kept.data.mkdir()
    kept.env = environment(kept.data)
    docker("cp", f"{box.name}:{backup}", str(kept.database))
    box.exec("rm", backup)
    load.verify_at_rest(kept)


@contextlib.contextmanager
def limits(box, *lower, back):
    """Give the container other limits for the block."""
    docker("update", *lower, box.name)
    try:
        yield
    finally:
        docker("update", *back, box.name)


def test_container_that_is_paused_goes_on_where_it_stood(boxed_load):
    box, load = boxed_load
    with load:
        load.wait_accepted(100, START_SECONDS)
        docker("pause", box.name)
        time.sleep(10)
        docker("unpause", box.name)
        load.wait_accepted(100, START_SECONDS)


def test_container_with_a_twentieth_of_a_core_loses_nothing(boxed_load):
    box, load = boxed_load
    with load:
        load.wait_accepted(100, START_SECONDS)
        with limits(box, "--cpus", "0.05", back=("--cpus", "2")):
            time.sleep(20)
        load.wait_accepted(100, START_SECONDS)


def test_container_whose_memory_is_halved_as_it_runs_loses_nothing(boxed_load):
    box, load = boxed_load
    more = ("--memory", "1g", "--memory-swap", "1g")
    with load:
        load.wait_accepted(100, START_SECONDS)
        with limits(box, "--memory", "512m", "--memory-swap", "512m", back=more):
            load.wait_accepted(100, START_SECONDS)
            time.sleep(5)
        load.wait_accepted(100, START_SECONDS)
    assert box.inspect(".State.OOMKilled") is False


@pytest.mark.parametrize("words", ["beam.smp", "appliance worker", "appliance api"])
def test_process_that_the_kernel_kills_for_want_of_memory_is_replaced(boxed_load, words):
    box, load = boxed_load
    with load:
        load.wait_accepted(100, START_SECONDS)
        before = box.exec("python3", "-c", FIND, words).strip()
        box.exec("python3", "-c", HOG, before, check=False)  # the kernel may end it too
        wait_until(
            lambda: box.exec("python3", "-c", FIND, words).strip() not in ("", before),
            f"a new {words}",
            START_SECONDS,
        )
        load.wait_accepted(100, START_SECONDS)


def test_container_without_room_for_another_process_recovers_when_there_is(boxed_load):
    """The API is killed meanwhile, and can't be started until then."""
    box, load = boxed_load
    with load:
        load.wait_accepted(100, START_SECONDS)
        api = box.exec("python3", "-c", FIND, "appliance api").strip()
        with limits(box, "--pids-limit", "1", back=("--pids-limit", "1000")):
            docker("kill", "--signal", "CONT", box.name)  # it still runs
            os.kill(host_pid(box, int(api)), signal.SIGKILL)
            time.sleep(8)
        load.wait_accepted(100, START_SECONDS)


def host_pid(box, pid):
    """Return the id that a process of the container has outside of it."""
    for line in docker("top", box.name, "-eo", "pid").split()[1:]:
        status = Path(f"/proc/{line}/status").read_text()
        if int(status.split("NSpid:")[1].split("\n")[0].split()[-1]) == pid:
            return int(line)
    raise AssertionError(f"no process {pid}")


@contextlib.contextmanager
def no_more_files(pid):
    """Let a process open no further file or connection for the block."""
    was = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = 1 + max(int(link.name) for link in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, was[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, was)


def test_api_that_can_open_no_more_files_serves_who_is_connected_and_recovers(running, under_load):
    api = wait_until(lambda: running.pid("api"), "it runs", START_SECONDS)
    place = urlsplit(running.url)
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        with no_more_files(api), contextlib.ExitStack() as links:
            for _ in range(50):
                links.enter_context(socket.create_connection((place.hostname, place.port), 10))
            load.wait_accepted(200, START_SECONDS)
            time.sleep(3)
        load.wait_accepted(200, START_SECONDS)
    assert running.pid("api") == api
    load.verify()


def test_worker_that_can_open_no_more_files_holds_its_messages_and_recovers(running, under_load):
    """The broker is killed meanwhile, so that the worker needs a new connection to it."""
    worker = wait_until(lambda: running.pid("worker:worker_0"), "it runs", START_SECONDS)
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        with no_more_files(worker):
            before = running.pid("broker")
            os.kill(before, signal.SIGKILL)
            wait_until(lambda: running.pid("broker") not in (None, before), "a broker", 60)
            time.sleep(5)
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_output_that_nobody_reads_holds_nobody_up(appliance, under_load):
    """Once the pipe is full, every write to it would wait for ever."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    one = appliance(APPLIANCE_LOG_LEVEL="debug")
    try:
        one.start(stdout=writing, stderr=writing).wait_ready()
        with under_load(one) as load:
            load.wait_accepted(3000, START_SECONDS)
        assert not select.select([], [writing], [], 0)[1], "the pipe is not full"
        load.verify()
    finally:
        os.close(reading)
        os.close(writing)
