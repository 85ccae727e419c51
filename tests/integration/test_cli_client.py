"""`appliance publish`, `tail` and `status` against the real API, worker and broker."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time

import pytest
from harness import APPLIANCE, free_port, wait_until


@pytest.fixture(scope="module")
def appliance(module_stack):
    return module_stack(max_message_bytes=100_000)


@pytest.fixture
def topic(request):
    """A topic of the test's own."""
    return re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:90]


def bodies(appliance, topic, count):
    return [row["body"] for row in appliance.wait_rows(count, topic)]


def start(appliance, *arguments, **options):
    """Start a command that goes on; its output is text."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    options = {"text": True, **pipes, **options}
    return subprocess.Popen([APPLIANCE, *arguments], env=appliance.env, **options)


# --- publish


def test_a_text_is_one_message_and_its_id_is_printed(appliance, topic):
    done = appliance.cli("publish", topic, "two\nlines, one message")
    assert done.returncode == 0, done.stderr
    (row,) = appliance.wait_rows(1, topic)
    assert row["body"] == "two\nlines, one message"
    assert row["id"] == done.stdout.decode().strip()
    assert done.stderr == b""


def test_the_bytes_of_an_argument_stay_as_they_were_typed(appliance, topic):
    done = appliance.cli("publish", topic, b"\xffno utf-8")
    assert done.returncode == 0, done.stderr
    assert bodies(appliance, topic, 1) == [b"\xffno utf-8"]


def test_each_line_of_a_file_is_a_message_in_order(appliance, topic, tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"%d\n" % n for n in range(23_456)) + b"\n\nlast")
    done = appliance.cli("publish", topic, "--file", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert re.match(
        r"23,457 messages \([\d,]+ bytes\) in [\d.]+ s \([\d,]+ a second\)", done.stderr.decode()
    )
    assert bodies(appliance, topic, 23_457) == [*map(str, range(23_456)), "last"]


def test_standard_input_is_read_line_by_line(appliance, topic):
    done = appliance.cli("publish", topic, "-", "--json", input=b"one\r\ntwo\n\xff\0\n")
    assert done.returncode == 0, done.stderr
    assert bodies(appliance, topic, 3) == ["one", "two", b"\xff\0"]
    report = json.loads(done.stdout)
    rows = appliance.rows(topic)
    assert (report["topic"], report["messages"], report["requests"]) == (topic, 3, 1)
    assert (report["first_id"], report["last_id"]) == (rows[0]["id"], rows[-1]["id"])


def test_whole_sends_an_input_as_one_message(appliance, topic, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100)
    assert appliance.cli("publish", topic, "--whole", "--file", str(path)).returncode == 0
    assert appliance.cli("publish", topic, "--whole", "-", input=b"a\nb\n").returncode == 0
    assert bodies(appliance, topic, 2) == [bytes(range(256)) * 100, "a\nb\n"]


def test_an_input_without_messages_is_fine_and_says_so(appliance, topic):
    done = appliance.cli("publish", topic, "-", input=b"\n\r\n\n")
    assert done.returncode == 0
    assert done.stderr.startswith(b"0 messages")


def test_wait_returns_once_it_is_a_row(appliance, topic):
    for arguments, data in (((topic, "x"), b""), ((topic, "-"), b"a\nb\n" * 5000)):
        before = appliance.count(topic)
        done = appliance.cli("publish", *arguments, "--wait", "--json", input=data)
        report = json.loads(done.stdout)
        assert report["status"] == "stored"
        assert appliance.count(topic) == before + report["messages"]


def test_a_slow_pipe_is_sent_as_it_comes(appliance, topic):
    publishing = start(appliance, "publish", topic, "-", text=False)
    for n in range(3):
        publishing.stdin.write(b"line %d\npart of" % n)
        publishing.stdin.flush()
        appliance.wait_rows(n + 1, topic, timeout=10)
        publishing.stdin.write(b" the next: ")
    publishing.communicate(timeout=20)
    assert publishing.returncode == 0
    assert bodies(appliance, topic, 4)[1] == "part of the next: line 1"


def test_a_line_that_is_too_long_is_named_and_the_rest_is_not_sent(appliance, topic, tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 99 + b"\n" + b"short\n" * 6000 + b"y" * 150_000 + b"\nafter\n" * 10)
    done = appliance.cli("publish", topic, "--file", str(path))
    assert done.returncode == 1
    assert b"line 6002 has 150000 bytes" in done.stderr
    sent = int(re.search(rb"([\d,]+) messages before", done.stderr)[1].replace(b",", b""))
    time.sleep(0.3)
    assert appliance.count(topic) == sent < 6002


def test_a_line_longer_than_any_request_is_refused_in_words(appliance, topic):
    done = appliance.cli("publish", topic, "-", input=b"a\n" + b"z" * 12_000_000 + b"\n")
    assert done.returncode == 1
    assert b"line 2 has 12000000 bytes" in done.stderr


def test_a_message_that_is_too_large_is_refused(appliance, topic):
    done = appliance.cli("publish", topic, "--whole", "-", input=b"z" * 20_000_000)
    assert done.returncode == 1
    assert b"more than 100000 bytes" in done.stderr


def test_an_empty_message_is_refused(appliance, topic):
    done = appliance.cli("publish", topic, "")
    assert done.returncode == 1
    assert b"empty" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish",),
        ("publish", "topic"),
        ("publish", "Bad Topic", "x"),
        ("publish", "a", "x", "--file", "/etc/hostname"),
        ("publish", "a", "x", "--whole"),
        ("publish", "a", "--file", "/nothing/there"),
        ("publish", "a", "--file", "/etc"),
        ("tail", "../a"),
        ("tail", "a", "-n", "-1"),
    ],
)
def test_wrong_usage_ends_with_2(appliance, arguments):
    done = appliance.cli(*arguments)
    assert done.returncode == 2
    assert b"Usage:" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("publish", "a", "x", "--timeout", "0"), ("tail", "a", "--no-follow"), ("status",)],
)
def test_an_api_that_is_not_there_ends_with_69(appliance, arguments):
    env = appliance.env | {"APPLIANCE_URL": f"http://127.0.0.1:{free_port()}"}
    done = appliance.cli(*arguments, env=env)
    assert done.returncode == 69
    assert b"nothing answers at http://127.0.0.1:" in done.stderr
    assert b"Errno" not in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("token", ["another-token", "short"])
def test_a_wrong_token_ends_with_77(appliance, token):
    env = appliance.env | {"APPLIANCE_TOKEN": token}
    for arguments in (("publish", "a", "x"), ("tail", "a"), ("status",), ("dead", "list")):
        done = appliance.cli(*arguments, env=env)
        assert done.returncode == 77
        assert b"refused the token; set APPLIANCE_TOKEN" in done.stderr


def test_progress_is_shown_on_a_terminal_only(appliance, topic, tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"a line of some length\n" * 20_000)
    arguments = [APPLIANCE, "publish", topic, "--file", str(path)]
    quiet = subprocess.run(arguments, env=appliance.env, capture_output=True, check=True)
    assert b"%" not in quiet.stderr
    main, terminal = pty.openpty()
    shown = subprocess.Popen(arguments, env=appliance.env, stderr=terminal)
    os.close(terminal)
    output = b""
    while True:
        try:
            output += os.read(main, 65536)
        except OSError:  # the other end is closed
            break
    os.close(main)
    assert shown.wait(30) == 0
    assert b"100%" in output
    assert b"20,000 messages" in output


# --- tail


def test_tail_prints_the_last_messages_oldest_first(appliance, topic):
    appliance.publish(topic, b"\n".join(b"%d" % n for n in range(30)), {"split": "lines"})
    appliance.wait_rows(30, topic)
    done = appliance.cli("tail", topic, "-n", "3", "--no-follow")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["27", "28", "29"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  ", lines[0])
    assert appliance.cli("tail", topic, "-n", "0", "--no-follow").stdout == b""


def test_tail_since_prints_everything_since_then(appliance, topic):
    appliance.publish(topic, b"\n".join(b"%d" % n for n in range(2500)), {"split": "lines"})
    appliance.wait_rows(2500, topic)
    done = appliance.cli("tail", topic, "--since", "1h", "--no-follow", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["body"] for message in found] == [f"{n}" for n in range(2500)]
    later = appliance.cli("tail", topic, "--since", "2999-01-01", "--no-follow", "--json")
    assert (later.returncode, later.stdout) == (0, b"")
    assert appliance.cli("tail", topic, "--since", "soon", "--no-follow").returncode == 1


def test_tail_follows_what_comes_and_ends_at_ctrl_c(appliance, topic):
    tail = start(appliance, "tail", topic, "--json")
    found = []
    reading = threading.Thread(target=lambda: found.extend(map(json.loads, tail.stdout)))
    reading.start()
    for n in range(3):
        appliance.publish(topic, b"%d" % n)
        wait_until(lambda n=n: len(found) > n, f"message {n} is printed", 20)
    tail.send_signal(signal.SIGINT)
    assert tail.wait(10) == 0
    reading.join()
    for stream in (tail.stdin, tail.stdout, tail.stderr):
        stream.close()
    assert [message["body"] for message in found] == ["0", "1", "2"]


def test_tail_without_a_topic_prints_the_messages_of_all_with_their_topics(appliance, topic):
    for n in range(3):
        appliance.publish(f"{topic}.{n}", b"all %d" % n, {"split": "lines"})
        appliance.wait_rows(1, f"{topic}.{n}")
    done = appliance.cli("tail", "-n", "3", "--no-follow")
    assert [line.split("  ")[1:] for line in done.stdout.decode().splitlines()] == [
        [f"{topic}.{n}", f"all {n}"] for n in range(3)
    ]
    since = appliance.cli("tail", "--since", "1h", "--no-follow", "--json").stdout.splitlines()
    assert [json.loads(line)["body"] for line in since[-3:]] == ["all 0", "all 1", "all 2"]


def test_tail_goes_on_across_a_restart_of_the_api_with_words(stack):
    appliance = stack()
    tail = start(appliance, "tail", "--json")
    found = []
    reading = threading.Thread(target=lambda: found.extend(map(json.loads, tail.stdout)))
    reading.start()
    for n in range(6):
        if n in (2, 4):
            appliance.api.kill() if n == 2 else appliance.api.stop()
            appliance.api.start()
            appliance.wait_ready()
        appliance.publish(f"t{n % 3}", b"%d" % n)
        wait_until(lambda n=n: len(found) > n, f"message {n} is printed", 30, appliance.logs)
    tail.send_signal(signal.SIGINT)
    assert tail.wait(10) == 0
    reading.join()
    assert [message["body"] for message in found] == [str(n) for n in range(6)]
    words = tail.stderr.read()
    for stream in (tail.stdin, tail.stdout, tail.stderr):
        stream.close()
    assert words.count("connecting again ...") == words.count("nothing was missed") == 2
    assert "Traceback" not in words


def test_tail_of_a_topic_that_never_was_ends_with_1(appliance):
    done = appliance.cli("tail", "never-was", "--no-follow")
    assert done.returncode == 1
    assert b"never-was" in done.stderr


def test_tail_into_a_closed_pipe_ends_quietly(appliance, topic):
    appliance.publish(topic, b"\n".join(b"%d" % n for n in range(900)), {"split": "lines"})
    appliance.wait_rows(900, topic)
    done = subprocess.run(
        f"{APPLIANCE} tail {topic} -n 900 --no-follow | head -n 1",
        shell=True,
        env=appliance.env,
        capture_output=True,
        check=True,
    )
    assert done.stdout.endswith(b"  0\n")
    assert b"Traceback" not in done.stderr


def test_tail_does_not_let_a_message_steer_the_terminal(appliance, topic):
    appliance.publish(topic, b"\x1b[31mred\x07")
    appliance.wait_rows(1, topic)
    main, terminal = pty.openpty()
    done = subprocess.run(
        [APPLIANCE, "tail", topic, "--no-follow"], env=appliance.env, stdout=terminal, check=True
    )
    os.close(terminal)
    output = os.read(main, 65536)
    os.close(main)
    assert done.returncode == 0
    assert b"\\x1b[31mred\\x07" in output
    assert b"\x1b" not in output


# --- status


def test_status_shows_that_all_is_well(appliance):
    done = appliance.cli("status")
    assert done.returncode == 0, done.stdout
    first, *lines = done.stdout.decode().splitlines()
    assert first.endswith(f"at {appliance.url}: ready")
    assert {line.split()[0] for line in lines} >= {"broker", "queue", "store", "files", "disk"}
    assert json.loads(appliance.cli("status", "--json").stdout)["ready"] is True


def test_status_ends_with_1_when_not_ready(stack):
    appliance = stack(workers=0)
    done = appliance.cli("status")
    assert done.returncode == 1
    assert b"NOT READY" in done.stdout
    assert b"no worker is attached" in done.stdout
    assert appliance.cli("status", "--json").returncode == 1


# --- what goes wrong on the way


@pytest.mark.slow
def test_a_file_is_stored_once_though_the_api_is_killed_on_the_way(stack, tmp_path):
    appliance = stack()
    path = tmp_path / "lines"
    total = 400_000
    path.write_bytes(b"".join(b"%d %s\n" % (n, b"x" * 100) for n in range(total)))
    publishing = start(appliance, "publish", "big", "--file", str(path))
    for count in (20_000, 150_000):
        appliance.wait_rows(count, "big", timeout=60)
        appliance.api.kill()
        time.sleep(0.5)
        appliance.api.start()
    _, errors = publishing.communicate(timeout=120)
    assert publishing.returncode == 0, errors
    appliance.wait_rows(total, "big", timeout=60)
    rows = appliance.query("SELECT body FROM messages WHERE topic = 'big' ORDER BY seq")
    assert [int(row["body"].split()[0]) for row in rows] == list(range(total))
