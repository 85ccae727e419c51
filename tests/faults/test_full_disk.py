"""Disks that fill up: the store's, the broker's, both in either order, and inodes.

Another program takes all that is left, past every floor of ours. Nothing that was answered 202 is
lost, it recovers by itself once there is room, and the log says so without repeating itself.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
from disks import SmallDisk
from engine import HARDENED
from harness import START_SECONDS, Folder, Process, environment, wait_until
from outbound import Out
from receivers import Reply, receiving
from test_container import Boxed, Target
from watched import WatchedLoad

from appliance import config as configuration
from appliance.machine.pulse import Pulse
from appliance.machine.signs import signs

#: Seconds that a disk stays full.
FULL = 5.0
#: Lines that our own processes may log from a disk's being full to its being ready again, and
#: those of one kind. Each program that is killed meanwhile adds its end, its start and, once more,
#: what fails and that it is over. What RabbitMQ's own crash says is about a hundred lines, once.
OUR_LINES = 45
OUR_LINES_OF_A_KILL = 3
OUR_LINES_ALIKE = 8
ALL_LINES = 400

AGAIN = "deliveries with the database again"
PROGRAMS = ("broker", "worker:worker_0", "worker:worker_1", "api", "janitor", "deliver")

#: User and group of the image.
BOXED_USER = (10001, 10001)

SETTINGS = {
    "APPLIANCE_HANG_TIMEOUT": "5",
    "APPLIANCE_MIN_FREE_BYTES": "16MiB",
    "APPLIANCE_LOG_FORMAT": "json",
    "APPLIANCE_DELIVER_ALLOW": "127.0.0.1",
}


class OnSmallDisks:
    """An appliance whose store and broker have a small disk each."""

    def __init__(self, one, under_load: Callable[..., WatchedLoad]) -> None:
        self.one = one
        self.disks = {
            "store": SmallDisk(one.data),
            "broker": SmallDisk(one.data / "broker"),
        }
        one.start().wait_ready()
        self.load = under_load(one, pause=0.02)

    def episode(self, *order: str, what: str = "bytes", meanwhile: Callable = lambda: None) -> None:
        """Fill disks one after another, then make room in the same order; wait until it heals."""
        self.load.wait_accepted(100, START_SECONDS)
        lines = len(self.one.log.splitlines())
        for name in order:
            disk = self.disks[name]
            disk.fill() if what == "bytes" else disk.fill_inodes()
            wait_until(lambda n=name: self.refused_for(n), f"{name} refused", more=self.one.logs)
        meanwhile()
        time.sleep(FULL)
        for name in order:
            self.disks[name].make_room()
        freed = time.monotonic()
        wait_until(self.one.ready, "ready again", START_SECONDS, self.one.logs)
        self.load.wait_accepted(100, START_SECONDS)
        took = round(time.monotonic() - freed, 1)
        self.load.note(**{f"{what}_{'_then_'.join(order)}_healed_after": took})
        self.check_log(self.one.log.splitlines()[lines:])

    def refused_for(self, name: str) -> bool:
        """Whether readiness names this disk as the reason."""
        try:
            answer = self.one.client.get("/readyz", timeout=10).json()
        except httpx.TransportError:
            return False
        words = {"store": "the data's disk", "broker": "the broker's disk"}[name]
        return any(words in reason for reason in answer["reasons"])

    def check_log(self, lines: list[str]) -> None:
        assert "Traceback" not in "".join(lines)
        kills = sum("terminated by SIGKILL" in line for line in lines)
        quarantined = '"message quarantined"'  # by the load, whatever the disk does
        ours = [line for line in lines if '"process"' in line and quarantined not in line]
        assert len(ours) <= OUR_LINES + kills * OUR_LINES_OF_A_KILL, "\n".join(ours)
        kinds = Counter(json.loads(line)["event"].partition(":")[0] for line in ours)
        assert max(kinds.values(), default=0) <= OUR_LINES_ALIKE, "\n".join(ours)
        assert len(lines) <= ALL_LINES, len(lines)
        refusing = [line for line in ours if '"refusing messages"' in line]
        assert 1 <= len(refusing) <= 2, refusing


@pytest.fixture
def small(appliance, under_load) -> Iterator[Callable[[], OnSmallDisks]]:
    made: list[OnSmallDisks] = []

    def make() -> OnSmallDisks:
        made.append(OnSmallDisks(appliance(**SETTINGS), under_load))
        return made[-1]

    yield make
    for one in made:
        one.one.clear()
        for disk in reversed(one.disks.values()):
            disk.unmount()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_disks_that_fill_up_in_any_order_lose_nothing_and_recover_by_themselves(small, outward):
    """Each time waits for RabbitMQ to see that there is room, and perhaps for its restart."""
    it = small()
    with outward(it.load) as out, it.load:
        it.episode("store")
        it.episode("broker")
        it.episode("store", "broker")
        it.episode("broker", "store")
        it.episode("store", "broker", what="inodes")
    it.load.verify()
    out.verify()
    assert it.one.end() == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_programs_killed_while_the_disks_are_full_come_back(small, outward):
    """Waits for RabbitMQ's start, which waits for room."""
    it = small()

    def kill():
        for program in PROGRAMS:
            before = wait_until(lambda p=program: it.one.pid(p), f"{program} runs")
            os.kill(before, signal.SIGKILL)
            wait_until(lambda p=program, b=before: it.one.pid(p) not in (None, b), program, 60)

    with outward(it.load) as out, it.load:
        it.episode("store", "broker", meanwhile=kill)
    it.load.verify()
    out.verify()
    assert it.one.log.count("broker waiting for space") == 1
    assert it.one.end() == 0


@pytest.fixture
def tiny(tmp_path) -> Iterator[tuple[configuration.Config, SmallDisk]]:
    """A data folder on a disk of its own, for a pulse alone."""
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")})
    disk = SmallDisk(config.data, mebibytes=1)
    yield config, disk
    disk.unmount()


def test_a_pulse_that_has_begun_goes_on_where_the_disk_is_full(tiny):
    config, disk = tiny
    with Pulse(config, "worker", environ={}) as pulse:
        disk.fill()
        before = signs(config)[0].beats
        pulse.beat()
        wait_until(lambda: signs(config)[0].beats > before, "another beat")


def test_a_pulse_that_could_not_begin_begins_when_there_is_room(tiny):
    config, disk = tiny
    disk.fill()
    with Pulse(config, "worker", environ={}) as pulse:
        pulse.beat()
        assert signs(config) == []
        disk.make_room()
        wait_until(lambda: signs(config), "a first sign")


def test_deliveries_that_can_t_be_noted_wait_for_room_and_miss_none(tmp_path):
    """Until there is room, nothing more is begun; and since nothing is killed, nothing is repeated.

    At the rate of the endpoint everything would be delivered in two seconds.
    """
    disk, full = SmallDisk(tmp_path / "data", mebibytes=64), threading.Event()
    out = Out(tmp_path)

    def answer(_):
        full.wait(60)
        return Reply()

    def log(event):
        return out.process.log.count(f'"{event}"')

    try:
        with receiving(answer) as receiver:
            out.endpoint(receiver.url, concurrency=4, rate="500/s")
            out.put(*(b"%d" % number for number in range(1000)))
            out.process.start()
            wait_until(
                lambda: len(receiver.journal) == 4, "it delivers", 30, lambda: out.process.log
            )
            disk.fill()
            full.set()
            wait_until(lambda: log("deliveries without the database"), "it can't be noted")
            words = "1 endpoint; waiting for the database: "
            wait_until(lambda: signs(out.config)[0].status.startswith(words), "it says so")
            time.sleep(2.5)
            assert len(receiver.journal) < 1000
            assert out.row().cursor == out.row().delivered == 0
            assert (log("deliveries without the database"), log(AGAIN)) == (1, 0)
            disk.make_room()
            assert out.settled().cursor == 1000
            assert (log("deliveries without the database"), log(AGAIN)) == (1, 1)
            wait_until(lambda: signs(out.config)[0].status == "1 endpoint", "it says so")
        assert receiver.bodies == list(dict.fromkeys(receiver.bodies))
        assert {*receiver.bodies} == {b"%d" % number for number in range(1000)}
    finally:
        out.close()
        disk.unmount()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_appliance_that_is_started_on_a_full_disk_waits_for_room(appliance):
    """Starts RabbitMQ twice; what was queued when the disk was full is stored."""
    one = appliance(**SETTINGS)
    disk = SmallDisk(one.data)
    try:
        one.start().wait_ready()
        one.ctl("stop", "worker:*")
        one.publish("queued", "before")
        assert one.end() == 0
        (one.data / "run" / "log" / "supervisord.log").unlink()  # its first line needs room at once
        disk.fill()
        lines = len(one.log.splitlines())
        one.start()
        wait_until(lambda: "broker waiting for space" in one.log, "it waits", 60, one.logs)
        time.sleep(FULL)
        assert one.states()["api"] == "RUNNING"
        disk.make_room()
        one.wait_ready()
        one.stored("queued", "before")
        said = one.log.splitlines()[lines:]
        assert len(said) <= ALL_LINES
        assert "Traceback" not in "".join(said)
        assert sum("log files can't be written" in line for line in said) <= 1
        assert one.end() == 0
    finally:
        one.clear()
        disk.unmount()


@pytest.mark.parametrize("what", ["fill", "fill_inodes"])
def test_a_database_that_has_no_room_to_be_opened_is_waited_for(tmp_path, what):
    """Opening one in WAL mode makes two files; everything would end if that were not to be had."""
    disk = SmallDisk(tmp_path / "data", mebibytes=8, files=200)
    migrate = Process("migrate", environment(disk.path), tmp_path)
    try:
        migrate.start()
        assert migrate.popen.wait(30) == 0
        getattr(disk, what)()
        migrate.start()
        wait_until(lambda: "database waiting for space" in migrate.log_now, "it waits", 30)
        time.sleep(2.5)
        assert migrate.running
        assert migrate.log_now.count("database waiting for space") == 1
        disk.make_room()
        assert migrate.popen.wait(30) == 0
    finally:
        migrate.kill()
        disk.unmount()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_container_whose_volume_fills_up_recovers_by_itself(under_load, tmp_path):
    """The same with the image's RabbitMQ, store and broker on one volume. Waits for its start."""
    disk = SmallDisk(tmp_path / "volume")
    os.chown(disk.path, *BOXED_USER)
    try:
        boxed = Boxed(str(disk.path), *HARDENED, "--env", "APPLIANCE_HANG_TIMEOUT=5")
        try:
            boxed.wait_ready()
            folder = Folder()
            folder.data, folder.env = disk.path, environment(disk.path)
            with under_load(Target(boxed), pause=0.02) as load:
                for number in range(2):
                    load.wait_accepted(100, START_SECONDS)
                    disk.fill()
                    time.sleep(FULL)
                    disk.make_room()
                    freed = time.monotonic()
                    load.wait_accepted(100, START_SECONDS)
                    load.note(**{f"healed_after_{number}": round(time.monotonic() - freed, 1)})
            boxed.wait_ready()
            boxed.drained(load)
            assert boxed.logs.count('"refusing messages"') <= 4
            assert boxed.stop()[1] == 0
            load.verify_at_rest(folder)
        finally:
            boxed.remove()
    finally:
        disk.unmount()
