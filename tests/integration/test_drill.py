"""`appliance drill`, from outside."""

import json
import signal
import sqlite3
import subprocess

import pytest
from harness import APPLIANCE, START_SECONDS, environment, wait_until


@pytest.fixture
def drill(tmp_path):
    """Start a drill on a scratch folder; whatever is left of it is ended."""
    started = []

    def start(*arguments):
        env = environment(tmp_path / "real")
        started.append(
            subprocess.Popen(
                [APPLIANCE, "drill", "--json", *arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()  # the scratch appliance ends with it
        process.communicate()


def count(database):
    if not database.exists():
        return 0
    link = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    try:
        return link.execute("SELECT count(*) FROM messages").fetchone()[0]
    except sqlite3.OperationalError:  # the schema is not made yet
        return 0
    finally:
        link.close()


@pytest.mark.slow
def test_a_short_drill_kills_counts_and_leaves_nothing(drill, tmp_path):
    """Starts RabbitMQ; kills for 12 s, in which each program has its turn."""
    process = drill("--for", "12s", "--connections", "4")
    output, errors = process.communicate(timeout=150)
    report = json.loads(output)
    print(report)
    assert (process.returncode, report["faults"]) == (0, []), errors
    assert report["kept"] is True
    assert (report["missing"], report["twice"]) == (0, 0)
    assert report["sent"] >= report["accepted"] > 0
    assert report["stored"] >= report["accepted"]
    assert sum(report["kills"].values()) >= 2
    assert report["fsync_p99_ms"] >= report["fsync_p50_ms"] > 0
    assert "answered 202" in errors  # how far it was
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("door", [pytest.param("amqp", marks=pytest.mark.long), "mqtt"])
def test_drill_through_another_door_counts_what_it_acknowledged(drill, door):
    """Starts RabbitMQ; kills for 4 s."""
    output, errors = drill("--door", door, "--for", "4s", "--rate", "200").communicate(timeout=170)
    report = json.loads(output)
    print(report)
    assert (report["door"], report["faults"], report["missing"]) == (door, [], 0), errors
    assert report["twice"] == report["doubled"]
    assert report["stored"] >= report["accepted"] + report["doubled"] > 0


@pytest.mark.slow
def test_a_drill_whose_store_loses_a_row_says_so(drill, tmp_path):
    """Deletes a row behind its back. Starts RabbitMQ."""
    process = drill("--for", "8s", "--rate", "300", "--data", str(tmp_path / "scratch"), "--keep")
    database = tmp_path / "scratch" / "data" / "appliance.db"
    wait_until(lambda: count(database) > 100, "rows are stored", START_SECONDS)
    link = sqlite3.connect(database, isolation_level=None, timeout=30)
    ((topic, body),) = link.execute(
        "DELETE FROM messages WHERE seq = 50 RETURNING topic, body"
    ).fetchall()
    link.close()
    output, errors = process.communicate(timeout=150)
    report = json.loads(output)
    assert process.returncode == 1, errors
    assert (report["missing"], report["kept"]) == (1, False)
    assert f"1 answered 202 and missing: {topic} {body.split()[1]} " in report["faults"][0]
    assert database.exists()
    assert str(database.parent) in errors


@pytest.mark.slow
def test_a_drill_that_is_interrupted_ends_with_a_report(drill, tmp_path):
    """Starts RabbitMQ, and ends it in good order."""
    process = drill("--for", "1h", "--data", str(tmp_path / "scratch"))
    wait_until(
        lambda: count(tmp_path / "scratch" / "data" / "appliance.db") > 100,
        "it runs",
        START_SECONDS,
    )
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=150)
    report = json.loads(output)
    assert (process.returncode, report["faults"]) == (0, []), errors
    assert report["accepted"] > 100
    assert not (tmp_path / "scratch").exists()


def test_a_folder_with_data_in_it_is_refused(drill, tmp_path):
    (tmp_path / "appliance.db").write_text("precious")
    process = drill("--data", str(tmp_path))
    assert process.wait(60) == 78
    assert "is not empty" in process.stderr.read()
    assert (tmp_path / "appliance.db").read_text() == "precious"
