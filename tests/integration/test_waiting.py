"""Requests with `Prefer: wait` are answered whichever side is killed, and nothing is left."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import wait_until

CLIENTS = 8


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=2)


def post(stack, topic, body, seconds):
    return httpx.post(
        f"{stack.url}/v1/topics/{topic}/messages",
        content=body,
        headers={**stack.client.headers, "Prefer": f"wait={seconds}"},
        timeout=120,
        trust_env=False,
    )


def sockets(stack):
    folder = stack.config.run_folder / "commits"  # made where one first waits
    return list(folder.iterdir()) if folder.exists() else []


def test_each_wait_ends_with_a_row_while_workers_are_killed(running):
    over, ids = threading.Event(), []

    def send(client):
        count = 0
        while not over.is_set():
            answer = post(running, "killed", b"%d %d" % (client, count), 60)
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
            assert running.query("SELECT 1 FROM messages WHERE id = ?", ids[-1])
            count += 1
        return count

    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = [pool.submit(send, client) for client in range(CLIENTS)]
        try:
            for worker in running.workers * 2:
                before = len(ids)
                wait_until(lambda n=before: len(ids) > n + 20, "201s", 60, running.logs)
                worker.kill()
                worker.start()
        finally:
            over.set()
    assert all(each.result() for each in sent)
    rows = running.rows("killed")
    assert sorted(row["id"] for row in rows) == sorted(ids)


def test_each_wait_is_over_in_time_while_no_worker_is_there(running):
    for worker in running.workers:
        worker.kill()
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(
                pool.map(lambda n: post(running, "nobody", b"%d" % n, 1 + n % 2), range(CLIENTS))
            )
        took = time.monotonic() - began
    finally:
        for worker in running.workers:
            worker.start()
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["status"] for answer in answers} == {"queued"}
    assert {answer.headers["preference-applied"] for answer in answers} == {"wait=1", "wait=2"}
    assert 1.9 < took < 60
    running.wait_rows(CLIENTS, "nobody", 60)


def test_socket_is_gone_when_nobody_has_waited_for_a_while(running):
    assert post(running, "idle", b"x", 60).status_code == 201
    assert sockets(running)
    wait_until(lambda: not sockets(running), "no socket is left", 60, running.logs)
    assert running.publish("idle", b"y").status_code == 202
    running.wait_rows(2, "idle")
    assert not sockets(running)


def test_killed_api_that_had_waits_leaves_nothing_that_the_next_one_keeps(running):
    for worker in running.workers:
        worker.kill()
    wait_until(lambda: not sockets(running), "nobody waits", 60, running.logs)
    ended = []

    def send(n):
        try:
            ended.append(post(running, "gone", b"%d" % n, 60).status_code)
        except httpx.TransportError:
            ended.append(0)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for n in range(CLIENTS):
            pool.submit(send, n)
        wait_until(lambda: sockets(running), "one waits, and is in the queue", 60, running.logs)
        (old,) = sockets(running)
        running.api.kill()
    assert ended == [0] * CLIENTS
    running.api.start()
    for worker in running.workers:
        worker.start()
    running.wait_ready()
    assert post(running, "gone", b"after", 60).status_code == 201
    (new,) = sockets(running)
    assert new != old
    rows = running.rows("gone")
    assert len({row["body"] for row in rows}) == len(rows) > 1
