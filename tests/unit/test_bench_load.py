"""The benchmark's own instruments: a generator or a check that is blind would flatter any side."""

import asyncio
import sqlite3
import sys
from contextlib import suppress

import pytest

from bench import database
from bench.harness import Program, wait_until
from bench.load import TAG_LENGTH, Bodies, Load, perform
from bench.meter import quantile, wrong_rows


class Server:
    """A tiny HTTP server; `respond(number, body)` gives what to answer with, None to hang up.

    Where that is a coroutine it is awaited.
    """

    def __init__(self, respond):
        self._respond = respond
        self._tasks = set()
        self.bodies = []
        self.connections = 0

    async def serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                pieces = self._respond(len(self.bodies) - 1, self.bodies[-1])
                if asyncio.iscoroutine(pieces):
                    pieces = await pieces
                if pieces is None:
                    break
                for piece in pieces if isinstance(pieces, list) else [pieces]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def ended(self):
        await asyncio.gather(*self._tasks)


def answer(status, *headers, body=b"{}"):
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def run(respond, **how):
    async def main():
        server = Server(respond)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            outcome = await perform(Load(port, ["/m"], **{"connections": 4, **how}))
            await server.ended()
        return server, outcome

    return asyncio.run(main())


def test_every_request_is_counted_and_every_body_has_a_tag_of_its_own():
    server, outcome = run(lambda *_: answer(202), count=100)
    assert (outcome.sent, outcome.ok, outcome.failed) == (100, 100, {})
    assert len({body[:TAG_LENGTH] for body in server.bodies}) == 100
    assert {len(body) for body in server.bodies} == {200}
    assert outcome.ended > outcome.started
    assert len(outcome.latencies) == 100


def test_connections_are_kept_and_one_request_at_a_time_is_sent_on_each():
    server, _ = run(lambda *_: answer(202), count=100, connections=3)
    assert server.connections == 3


def test_a_status_other_than_202_is_not_a_success():
    _, outcome = run(lambda number, _: answer(503 if number % 4 == 0 else 202), count=100)
    assert outcome.ok == 75
    assert outcome.failed == {"503": 25}


def test_a_connection_lost_without_an_answer_is_counted_and_replaced():
    server, outcome = run(lambda number, _: None if number == 10 else answer(202), count=50)
    assert outcome.ok == 49
    assert outcome.failed == {"unanswered": 1}
    assert server.connections == 5


def test_a_server_that_closes_after_each_answer_is_measured_all_the_same():
    server, outcome = run(lambda *_: answer(202, "Connection: close"), count=20, connections=2)
    assert outcome.ok == 20
    assert server.connections >= 20


def test_an_answer_that_can_not_be_read_is_not_a_success():
    _, outcome = run(
        lambda *_: b"HTTP/1.1 202 -\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", count=5
    )
    assert outcome.ok == 0
    assert outcome.failed == {"unreadable": 5}


def test_an_answer_in_pieces_is_put_together():
    pieces = [b"HTTP/1.1 20", b"2 -\r\ncontent-le", b"ngth: 4\r\n\r\nab", b"cd"]
    _, outcome = run(lambda *_: pieces, count=20)
    assert outcome.ok == 20


def test_a_fixed_pace_is_kept_and_latency_counts_from_when_a_request_was_due():
    """The one connection is held by the first request, so all others wait behind it."""

    async def respond(number, _):
        if number == 0:
            await asyncio.sleep(0.3)
        return answer(202)

    _, outcome = run(respond, connections=1, rate=100, count=20)
    assert outcome.ok == 20
    dues = [due for _, due, _ in outcome.accepted]
    assert dues[-1] - dues[0] == pytest.approx(0.19, abs=0.001)
    # due 10, 20, 30 ms after the first: each waited for what was left of the stall
    assert quantile(outcome.latencies, 0.5) > 0.1


def test_a_batch_has_the_lines_and_each_has_a_tag_of_its_own():
    bodies = Bodies(Load(0, [], lines=1000, size=200))
    lines = bodies.body(7).split(b"\n") + bodies.body(8).split(b"\n")
    assert {len(line) for line in lines} == {200}
    assert len({line[:TAG_LENGTH] for line in lines}) == 2000
    assert lines[0].startswith(b"000000007-0000 ")


@pytest.mark.parametrize(
    ("stored", "different", "wrong"),
    [
        (10, 10, 0),
        (9, 9, 1),  # one lost
        (11, 10, 1),  # one twice
        (10, 9, 2),  # one lost and one twice: the count alone would not tell
        (12, 12, 0),  # two that got no answer were kept: nobody was promised otherwise
        (13, 13, 1),  # one that was never sent
    ],
)
def test_a_lost_row_and_a_row_twice_are_noticed(stored, different, wrong):
    _, outcome = run(lambda number, _: None if number in (3, 4) else answer(202), count=12)
    assert outcome.ok == 10
    assert wrong_rows(outcome, Load(0, []), stored, different) == wrong


def test_rows_are_counted_by_their_tags(tmp_path):
    path = database.make(tmp_path / "bench.db")
    bodies = Bodies(Load(0, []))
    with sqlite3.connect(path) as store:
        for number, name in enumerate(["a", "b", "c", "again"]):
            body = bodies.body(min(number, 2)).decode()
            store.execute(
                "INSERT INTO messages (id, topic, body, received_at) VALUES (?, 't', ?, 'now')",
                (name, body),
            )
    store.close()
    rows = database.Rows(path)
    try:
        assert (rows.last(), rows.count(0), rows.count(2)) == (4, (4, 3), (2, 1))
        assert rows.numbers(2) == [(3, 2), (4, 2)]
    finally:
        rows.close()


def test_cpu_of_many_processes_that_work_for_less_than_a_tick_each_is_counted(tmp_path):
    """As PostgreSQL's are, one for each connection."""
    code = (
        "import os, time\n"
        "for _ in range(40):\n"
        "    if not os.fork():\n"
        "        while time.process_time() < 0.004: pass\n"
        "        time.sleep(60)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    program = Program("many", [sys.executable, "-c", code], tmp_path)
    try:
        wait_until("all have worked", lambda: program.cpu_seconds() >= 40 * 0.004, [program])
        assert program.cpu_seconds() < 40 * 0.004 + 2
    finally:
        program.stop()
