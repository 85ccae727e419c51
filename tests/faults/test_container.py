"""A container killed and stopped by its engine under load: nothing but the volume is left."""

import time
import uuid
from pathlib import Path

import pytest
from engine import HARDENED, START_SECONDS, Container, docker
from harness import Folder, environment, free_port, wait_until
from watched import WatchedLoad


class Boxed(Container):
    """A container that a load can be put on; its data folder is looked at in a copy."""

    def __init__(self, volume: str, *options: str) -> None:
        self.port = free_port()
        super().__init__(volume, *options, port=self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = wait_until(
            lambda: self.exec("appliance", "token", check=False).strip(), "a token", START_SECONDS
        )

    def logs_now(self) -> str:
        return "\n".join(self.logs.splitlines()[-60:])

    def drained(self, *loads: WatchedLoad) -> None:
        """Wait until all that these loads sent is stored, as the API sees it."""
        accepted = sum(load.sending.journal.accepted for load in loads)
        dead = sum(load.dead_accepted for load in loads)

        def empty() -> bool:
            status = self.http.get("/v1/status").json()
            store, depth = status["store"], status["broker"]["depth"]
            return depth == 0 and store["messages"] >= accepted and store["dead_letters"] >= dead

        wait_until(empty, "all is stored", 120, self.logs_now)

    def copy(self, folder: Path) -> Folder:
        """Return a copy of its data folder. The container must not run."""
        docker("cp", f"{self.name}:/data", str(folder))
        made = Folder()
        made.data = folder / "data"
        made.env = environment(made.data)
        return made


class Target:
    """What a load needs to know of a container."""

    def __init__(self, boxed: Boxed) -> None:
        self.url, self.token, self.logs = boxed.url, boxed.token, boxed.logs_now


@pytest.fixture
def boxed():
    volume = f"appliance-test-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", volume)
    made: list[Boxed] = []
    try:
        made.append(Boxed(volume, *HARDENED))
        yield made[0].wait_ready()
    finally:
        for container in made:
            container.remove()
        docker("volume", "rm", "--force", volume, check=False)


def settle(boxed, load, folder):
    """Let it store everything, look at all of it, and end it."""
    boxed.wait_ready()
    boxed.drained(load)
    boxed.exec("appliance", "verify")
    boxed.stop()
    load.verify_at_rest(boxed.copy(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_a_container_killed_over_and_over_under_load_loses_nothing(
    boxed, under_load, tmp_path, kills
):
    """`docker kill`, then `docker start`. Waits for RabbitMQ's start each time."""
    with under_load(Target(boxed)) as load:
        for _ in range(kills):
            load.wait_accepted(100, START_SECONDS)
            docker("kill", boxed.name)
            docker("start", boxed.name)
        load.wait_accepted(100, START_SECONDS)
    load.note(kills=kills)
    settle(boxed, load, tmp_path)


@pytest.mark.slow
def test_a_container_stopped_under_load_ends_in_time_and_loses_nothing(boxed, under_load, tmp_path):
    """`docker stop` with the engine's own grace of 10 seconds. Waits for RabbitMQ's start."""
    took = []
    with under_load(Target(boxed)) as load:
        for _ in range(2):
            load.wait_accepted(100, START_SECONDS)
            seconds, status = boxed.stop()
            assert status == 0, boxed.logs_now()
            took.append(round(seconds, 1))
            time.sleep(0.5)
            docker("start", boxed.name)
        load.wait_accepted(100, START_SECONDS)
    load.note(stopped_in_seconds=took)
    settle(boxed, load, tmp_path)


@pytest.mark.slow
def test_a_drill_runs_in_a_container_beside_what_it_serves(boxed):
    """`docker exec`, read-only and without rights. Kills for 8 s; starts RabbitMQ."""
    assert boxed.publish("real", "message").status_code == 202
    report = boxed.exec("appliance", "drill", "--for", "8s", "--connections", "4", "--rate", "400")
    assert "Every message that was answered 202 is stored once, whole and in order." in report
    wait_until(lambda: boxed.bodies("real") == ["message"], "the real one goes on")
    assert boxed.http.get("/v1/topics").json()["topics"][0]["topic"] == "real"
    assert "drill-" not in boxed.exec("ls", "/data")
