"""A start with millions of messages in the queue, as after a day without workers."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from harness import START_SECONDS, wait_until
from load import depth
from watched import WatchedLoad

pytestmark = pytest.mark.slow

TOPIC = "queued"
#: Messages of one envelope, and the clients that send them.
LINES, CLIENTS = 1000, 4
#: Messages a second that are sent beside it; all of them come behind what is in the queue.
RATE = 200
PROGRAMS = ("broker", "api", "worker:worker_0", "worker:worker_1")


class Beside(WatchedLoad):
    """A load whose rows are not the only ones."""

    patience = 600.0

    def rows(self, folder):
        return self.rows_of(folder, self.topics)


@pytest.mark.parametrize(
    "messages",
    [200_000, pytest.param(10_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3000)])],
)
def test_queue_of_millions_is_drained_after_a_start_and_more_is_taken_meanwhile(
    appliance, under_load, messages
):
    one = appliance().start().wait_ready()
    one.ctl("stop", "worker:*")
    began = time.monotonic()
    fill(one, messages)
    filled = time.monotonic() - began
    assert depth(one) == messages // LINES
    assert one.end() == 0

    began = time.monotonic()
    one.start().wait_ready()
    ready = time.monotonic() - began
    with under_load(one, kind=Beside, rate=RATE) as load:
        wait_until(lambda: kept(one) == messages, "it is drained", messages / 1000, one.logs)
        drained = time.monotonic() - began - ready
        load.wait_accepted(100, START_SECONDS)
    load.note(
        filled_in=f"{filled:.0f} s",
        ready_after=f"{ready:.1f} s",
        drained_after=f"{drained:.0f} s",
        peak_mib={program: peak_mib(running_pid(one, program)) for program in PROGRAMS},
    )
    load.verify(timeout=300)
    # The bodies are numbers: as many as there are, each of them another one, and none beyond.
    sql = "SELECT count(*), count(DISTINCT body), max(CAST(body AS INTEGER)), "
    sql += "sum(CAST(body AS INTEGER)) FROM messages WHERE topic = ?"
    assert tuple(one.query(sql, TOPIC)[0]) == (
        messages, messages, messages - 1, messages * (messages - 1) // 2,
    )  # fmt: skip
    assert one.end() == 0


def fill(one, messages):
    """Publish numbers, a thousand in each envelope."""
    headers = {"Authorization": f"Bearer {one.token}"}
    path = f"/v1/topics/{TOPIC}/messages?split=lines"

    def send(batches):
        with httpx.Client(base_url=one.url, headers=headers, trust_env=False, timeout=30) as client:
            for batch in batches:
                lines = "\n".join(map(str, range(batch * LINES, (batch + 1) * LINES)))
                answer = client.post(path, content=lines)
                assert answer.status_code == 202, answer.text

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(send, [range(n, messages // LINES, CLIENTS) for n in range(CLIENTS)]))


def kept(one):
    """Return how many are stored: to count the rows would take time from the worker."""
    found = one.query("SELECT messages FROM topics WHERE topic = ?", TOPIC)
    return found[0][0] if found else 0


def running_pid(one, program):
    """Wait until supervisord calls the program RUNNING: the broker only after some seconds."""
    return wait_until(lambda: one.pid(program), f"{program} runs", START_SECONDS)


def peak_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
