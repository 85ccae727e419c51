"""`appliance handle` runs functions that misbehave in every way, and stores what they say once.

It needs the database and nothing else, so these tests store messages themselves.
"""

import os
import signal
import textwrap
import time
from pathlib import Path

import pytest
from harness import Process, wait_until
from store_contents import IDS

from appliance import config as configuration
from appliance.handle.handler_numbers import COUNTER
from appliance.metrics import board
from appliance.model.handler_outcomes import result_ids
from appliance.model.timestamps import now
from appliance.model.wire import single
from appliance.store import open_store
from appliance.store.rows import Choice
from appliance.store.sqlite.database import connect

CODE = '''
import mmap, os, sys, time
from pathlib import Path
from appliance.handler import HandlerMessage, Reject

HERE = Path(__file__).parent

def shout(message):
    return message.replace(body=message.text().upper())

def do(message):
    """What the body says."""
    word, _, rest = message.text().partition(" ")
    return globals()["do_" + word](message, rest)

def do_keep(message, rest):
    return message

def do_split(message, rest):
    return (message.replace(body=part, topic=f"part.{part}") for part in rest.split())

def do_none(message, rest):
    return None

def do_reject(message, rest):
    raise Reject(rest)

def do_raise(message, rest):
    raise ValueError(rest)

def do_once(message, rest):
    if message.attempt == 1:
        raise OSError("not yet")
    return message.replace(body={"attempt": message.attempt})

def do_loop(message, rest):
    while True:
        pass

def do_sleep(message, rest):
    time.sleep(float(rest))
    return message

def do_eat(message, rest):
    return [b"x" * 2**20 for _ in range(4096)]

def do_map(message, rest):
    mmap.mmap(-1, 2**33)

def do_exit(message, rest):
    os._exit(3)

def do_sysexit(message, rest):
    sys.exit(0)

def do_crash(message, rest):
    os.kill(os.getpid(), 11)

def do_fork(message, rest):
    if os.fork() == 0:
        (HERE / str(os.getpid())).touch()
        time.sleep(600)
    while not list(HERE.glob("[0-9]*")):
        pass
    os._exit(4)

def do_nonsense(message, rest):
    return {"topic": "x", "body": "y"}

def do_endless(message, rest):
    while True:
        yield message

def do_topic(message, rest):
    return message.replace(topic="No Topic")

def do_empty(message, rest):
    return message.replace(body=b"")

def do_garbage(message, rest):
    for number in range(3, 64):
        try:
            os.write(number, b"garbage" * 100)
        except OSError:
            pass
    return message

def do_secret(message, rest):
    return message.replace(body={"names": sorted(os.environ), "headers": dict(message.headers)})
'''


class Handled:
    """A database, messages in it that wait for functions, and processes that run these."""

    def __init__(self, folder: Path, code=CODE, processes=1, **settings):
        self.folder = folder
        self.env = {
            "PATH": "/usr/bin:/bin",
            "APPLIANCE_DATA": str(folder / "data"),
            "APPLIANCE_LOG_FORMAT": "json",
            "APPLIANCE_MIN_FREE_BYTES": "0",
            "APPLIANCE_HANDLERS": "orders=mine:do, loud=mine:shout",
            "APPLIANCE_HANDLER_TIMEOUT": "1",
            "APPLIANCE_HANDLER_ATTEMPTS": "2",
            **settings,
        }
        self.config = configuration.load(
            {name: value for name, value in self.env.items() if name.startswith("APPLIANCE")}
        )
        self.code(code)
        self.store = open_store(self.config)
        self.store.migrate()
        self.writer = self.store.open_writer()
        self.processes = []
        for _ in range(processes):
            self.start()

    def code(self, text, name="mine"):
        self.config.handlers_home.mkdir(parents=True, exist_ok=True)
        (self.config.handlers_home / f"{name}.py").write_text(textwrap.dedent(text))

    def start(self):
        number = len(self.processes)
        folder = self.folder / f"process{number}"
        folder.mkdir()
        self.processes.append(Process("handle", self.env, folder))
        self.processes[-1].start()

    def put(self, *bodies, topic="orders", meta=None):
        ids = [IDS.new() for _ in bodies]
        self.writer.store(
            [
                single(topic, name, now(), body.encode(), None, meta)
                for name, body in zip(ids, bodies, strict=True)
            ]
        )
        return ids

    def rows(self):
        return [(topic, body) for topic, _, body in self.store.rows()]

    def letters(self):
        return self.store.dead_letters.page(Choice(), 1000).rows

    def done(self, count, seconds=30):
        """Wait until so many messages were handled, whatever came of it."""
        wait_until(lambda: len(self.outcomes()) >= count, "all are handled", seconds, self.logs)
        return self.outcomes()

    def outcomes(self):
        link = connect(self.store.path, readonly=True)
        try:
            return dict(link.execute("SELECT id, outcome FROM handled_messages").fetchall())
        finally:
            link.close()

    def logs(self):
        return "\n".join(each.log for each in self.processes)

    def close(self):
        for process in self.processes:
            if process.running:
                process.stop()
        self.writer.close()
        self.store.handling.close()
        self.store.reader.close()


@pytest.fixture
def handled(tmp_path):
    made = []

    def make(**settings):
        made.append(Handled(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_results_of_a_function_are_stored(handled):
    one = handled()
    keep, split, none = one.put("keep as it is", "split a b c", "none")
    (loud,) = one.put("hello", topic="loud")
    outcomes = one.done(4)
    assert outcomes == {keep: "handled", split: "handled", none: "dropped", loud: "handled"}
    assert {message_id: (topic, body) for topic, message_id, body in one.store.rows()} == {
        keep: ("orders", "keep as it is"),
        loud: ("loud", "HELLO"),
        **dict(zip(result_ids(split, 3), [(f"part.{x}", x) for x in "abc"], strict=True)),
    }
    assert one.letters() == []
    took = board.totals(one.config).histograms["handler_duration_seconds"]
    assert sum(took[:-1]) <= 4
    wait_until(lambda: counted(one, "handled") == 3, "they are counted", 10, one.logs)
    assert counted(one, "dropped") == 1


def test_functions_that_fail_in_every_way_leave_dead_letters_and_stop_nothing_else(handled):
    words = {
        "raise too bad": "ValueError: too bad",
        "loop": "longer than 1 seconds",
        "sleep 100": "longer than 1 seconds",
        "eat": "MemoryError",
        "map": "OSError",
        "exit": "ended with status 3",
        "sysexit": "SystemExit: 0",
        "crash": "killed by SIGSEGV",
        "fork": "ended with status 4",
        "nonsense": "the function returned a dict",
        "endless": "APPLIANCE_MAX_BATCH_MESSAGES",
        "topic": "a topic has 1 to 100",
        "empty": "a result has no body",
        "unknown": "KeyError: 'do_unknown'",
        "garbage": "can't be taken",
    }
    one = handled(APPLIANCE_HANDLER_MEMORY="256MiB", APPLIANCE_MAX_BATCH_MESSAGES="1000")
    good = []
    bad = {}
    for does in words:
        good += one.put(f"keep beside {does}")
        bad[one.put(does)[0]] = does
    assert one.done(2 * len(words), 60) == {
        **dict.fromkeys(good, "handled"), **dict.fromkeys(bad, "dead"),
    }  # fmt: skip
    letters = one.letters()
    assert {each.id: each.body.decode() for each in letters} == bad
    assert len(letters) == len(bad)
    for letter in letters:
        assert (letter.topic, letter.reason) == ("orders", "handler-failed")
        assert words[letter.body.decode()] in letter.error
    assert sorted(one.rows()) == sorted(("orders", f"keep beside {does}") for does in words)
    wait_until(
        lambda: counted(one, "failed") == 2 * len(bad),
        "tries are counted",
        10,
        one.logs,
    )
    assert counted(one, "dead") == len(bad)
    forked = [int(path.name) for path in one.config.handlers_home.glob("[0-9]*")]
    assert len(forked) == 2
    wait_until(lambda: not any(map(runs, forked)), "what it started is killed", 10, one.logs)


def test_a_message_that_is_rejected_is_a_dead_letter_at_once(handled):
    one = handled(APPLIANCE_HANDLER_ATTEMPTS="100")
    one.put("reject no customer")
    one.done(1, 5)
    assert one.letters()[0].error == "rejected: no customer"


def test_a_failure_that_passes_leaves_one_row_and_no_dead_letter(handled):
    one = handled()
    one.put("once")
    one.done(1)
    assert one.rows() == [("orders", '{"attempt":2}')]
    assert one.letters() == []


def test_functions_see_the_headers_and_none_of_the_appliances_secrets(handled):
    one = handled(APPLIANCE_TOKEN="s3cret-token-of-24-chars")
    one.put("secret", meta='{"headers":{"x-kind":"order"}}')
    one.done(1)
    ((_, body),) = one.rows()
    assert '"headers":{"x-kind":"order"}' in body
    assert "APPLIANCE_TOKEN" not in body
    assert "APPLIANCE_DATA" in body


def test_a_function_that_can_t_be_loaded_holds_its_own_messages_only_until_it_can(handled):
    one = handled(code="def shout(message):\n    return message\n")
    one.put("keep me")
    one.put("hello", topic="loud")
    one.done(1)
    wait_until(lambda: "has no attribute 'do'" in one.logs(), "the log says so", 10, one.logs)
    assert one.rows() == [("loud", "hello")]
    one.code(CODE)
    one.done(2)
    assert one.rows() == [("loud", "hello"), ("orders", "keep me")]
    assert one.letters() == []


def test_a_message_that_ends_its_process_each_time_becomes_a_dead_letter(handled):
    code = (
        CODE + "\ndef do_murder(message, rest):\n    os.kill(os.getppid(), 9)\n    time.sleep(9)\n"
    )
    one = handled(code=code)
    (bad,) = one.put("murder")
    others = one.put(*[f"keep {n}" for n in range(20)])
    while bad not in one.outcomes():
        wait_until(lambda: not one.processes[-1].running or bad in one.outcomes(),
                   "it is killed, or the message given up", 30, one.logs)  # fmt: skip
        if bad not in one.outcomes():
            one.start()
    assert one.done(21) == {bad: "dead"} | dict.fromkeys(others, "handled")
    assert "its process ended" in one.letters()[0].error


def test_a_stop_gives_back_what_is_not_handled(handled):
    one = handled(APPLIANCE_HANDLER_TIMEOUT="100")
    one.put("sleep 60", "keep b")
    wait_until(lambda: children(one.processes[0].pid), "the function runs", 10, one.logs)
    time.sleep(0.5)
    began = time.monotonic()
    one.processes[0].stop()
    assert time.monotonic() - began < 5
    (state,) = one.store.handling.backlog()
    assert (state.waiting, state.retrying) == (2, 0)


def test_nothing_is_lost_or_doubled_however_often_handler_processes_are_killed(handled):
    """Three processes, killed again and again, each row once; nothing that they start survives."""
    count = 3000
    one = handled(processes=3, APPLIANCE_HANDLER_ATTEMPTS="100")
    wanted = {}
    for start in range(0, count, 100):
        bodies = [("split " if n % 3 else "keep ") + f"{n} x{n}" for n in range(start, start + 100)]
        wanted |= dict(zip(one.put(*bodies), bodies, strict=True))
        victim = one.processes[start // 100 % len(one.processes)]
        if victim.running:
            os.kill(victim.pid, signal.SIGKILL)
            one.start()
    assert set(one.done(count, 120).values()) == {"handled"}
    expected = {}
    for name, body in wanted.items():
        if body.startswith("keep"):
            expected[name] = ("orders", body)
        else:
            parts = body.split()[1:]
            ids = result_ids(name, 2)
            expected |= {i: (f"part.{p}", p) for i, p in zip(ids, parts, strict=True)}
    found = [(message_id, (topic, body)) for topic, message_id, body in one.store.rows()]
    assert len(found) == len(expected)
    assert dict(found) == expected
    assert one.letters() == []


def counted(one, outcome):
    counters = board.totals(one.config).counters
    return sum(n for name, n in counters.items() if f"{COUNTER}:{outcome}:" in name)


def runs(pid):
    """Whether it runs; who reaps it is the machine's business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
