"""The board adds up the numbers of all processes; no sum falls when one of them is killed."""

import json
import os
import signal
import subprocess
import sys

import pytest
from harness import wait_until

from appliance import config as configuration
from appliance.api.http import problems
from appliance.errors import StoreError
from appliance.metrics import board, series
from appliance.metrics.board import FILE_BYTES, Numbers
from appliance.model.tallies import PublishTally, StoreTally, StreamTally

SHOWS = """
import sys, time
from appliance import config as configuration
from appliance.metrics import board
config = configuration.load({"APPLIANCE_DATA": sys.argv[1]})
with board.shown(config, "worker", lambda: board.Numbers({"n": 5}, {"h": [1, 0, 0.5]}, {"g": 2})):
    print("shown", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


@pytest.fixture
def another(config):
    """Returns a process that shows its numbers."""
    made = []

    def start():
        made.append(
            subprocess.Popen(
                [sys.executable, "-c", SHOWS, str(config.data)], stdout=subprocess.PIPE, text=True
            )
        )
        assert made[-1].stdout.readline() == "shown\n"
        return made[-1]

    yield start
    for each in made:
        each.kill()
        each.wait()
        each.stdout.close()


def folder(config):
    return config.run_folder / "metrics"


def test_numbers_of_processes_are_added_and_stay_when_they_are_killed(config, another):
    one, other = another(), another()
    with board.shown(config, "api", lambda: Numbers({"n": 1})):
        before = board.totals(config)
        assert (before.counters["n"], before.histograms["h"]) == (11, [2, 0, 1.0])
        assert (before.gauges, before.living) == ({"g": 4}, {"worker": 2, "api": 1})
        for each in (one, other):
            os.kill(each.pid, signal.SIGKILL)
            each.wait()
        after = board.totals(config)
    assert (after.counters, after.histograms) == (before.counters, before.histograms)
    assert (after.gauges, after.living) == ({}, {"api": 1})
    assert after.starts == {"worker": 2, "api": 1}
    another()
    assert board.totals(config).counters["n"] == 16
    assert board.totals(config).starts["worker"] == 3


def test_numbers_are_shown_again_every_second(config):
    numbers = {"n": 1}
    with board.shown(config, "api", lambda: Numbers(numbers)):
        numbers["n"] = 7
        wait_until(lambda: board.totals(config).counters["n"] == 7, "the new number")
        numbers["n"] = 8
    assert board.totals(config).counters["n"] == 8  # the last word of one that ends
    assert board.totals(config).counters["n"] == 8


def test_file_that_was_added_and_could_not_be_removed_is_not_added_again(config):
    with board.shown(config, "api", lambda: Numbers({"n": 3})):
        pass
    (path,) = folder(config).glob("api-*")
    content = path.read_bytes()
    assert board.totals(config).counters["n"] == 3
    path.write_bytes(content)
    assert board.totals(config).counters["n"] == 3
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"process":1}', b"\0" * 4096, b"[]"])
def test_file_that_is_damaged_is_left_out_and_said(config, content):
    with board.shown(config, "api", lambda: Numbers({"n": 3})):
        (folder(config) / "worker-1-1").write_bytes(content)
        assert board.totals(config).counters == {"n": 3}
    (folder(config) / "past.json").write_bytes(content)
    assert board.totals(config).counters == {"n": 3}


def test_board_that_can_not_be_used_is_an_error_of_the_store(config):
    config.run_folder.mkdir(parents=True)
    folder(config).write_text("a file")
    with pytest.raises(StoreError, match="metrics"):
        board.totals(config)


def test_largest_record_of_each_process_has_room_in_its_file():
    """A record that has none is not written."""
    most, publishing, storing = 2**53, PublishTally(), StoreTally()
    for name in ("accepted", "published", "confirmed", "nacked"):
        setattr(publishing, name, most)
    publishing.took.buckets = [most] * len(publishing.took.buckets)
    storing.lag.buckets = publishing.took.buckets
    for word in [*storing.dead, *series._DEAD]:
        storing.dead[word] = most
    refused = dict.fromkeys(problems.answered(), most)
    refused |= {f"status-{number}": most for number in (405, 408, 411, 412, 431, 501, 505)}
    for numbers in (
        series.of_api(publishing, refused, StreamTally(), 1e6, 2**40),
        series.of_worker(storing, 1e6),
    ):
        assert len(json.dumps({"process": "worker", **numbers._asdict()})) < FILE_BYTES
