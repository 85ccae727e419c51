"""The drill's parts that need no appliance: whom it kills, where it puts its data, its words."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from appliance.cli.commands.drill import report_lines
from appliance.drill.drill import DrillReport
from appliance.drill.kill import PROGRAMS, Killer
from appliance.drill.scratch import Scratch, make_folder
from appliance.errors import FolderError
from appliance.machine.fsync_times import fsync_seconds, percentile


@contextmanager
def sleepers(*names):
    """Processes that do nothing, by name."""
    running = {name: subprocess.Popen(["sleep", "600"]) for name in names}
    try:
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def alive(running):
    return {name: p.pid for name, p in running.items() if p.poll() is None}


def test_every_program_is_killed_once_a_round_and_each_worker_counts_as_one():
    count = iter(range(1000))
    with sleepers("broker", "api", "worker:worker_0", "worker:worker_1", "janitor") as running:
        killer = Killer(lambda: alive(running), lambda: next(count))
        killed = [killer.kill_one() for _ in range(3)]
        for name in ("broker", "api"):
            assert running[name].wait(10) == -9
        assert sorted(killed) == sorted(PROGRAMS)
        assert running["janitor"].poll() is None
        assert killer.kills == {"broker": 1, "api": 1, "worker": 1}


def test_a_program_is_not_killed_twice_before_a_message_was_accepted_in_between():
    accepted = 0
    with sleepers("api", "api:again") as running:
        killer = Killer(lambda: alive(running), lambda: accepted, programs=["api"])
        assert killer.kill_one() == "api"
        assert killer.kill_one() is None
        accepted = 1
        assert killer.kill_one() == "api"


def test_where_nothing_runs_nothing_is_killed():
    killer = Killer(dict, lambda: 1)
    assert killer.kill_one() is None
    assert killer.kills == {}


def test_the_folder_is_made_where_the_data_is(tmp_path):
    assert make_folder(None, tmp_path).parent == tmp_path
    assert make_folder(None, tmp_path / "not" / "there").parent == tmp_path


def test_a_folder_that_holds_anything_is_refused(tmp_path):
    (tmp_path / "appliance.db").write_text("precious")
    with pytest.raises(FolderError, match="not empty"):
        make_folder(tmp_path, tmp_path)
    assert (tmp_path / "appliance.db").read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_refused_with_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"--data: .*file/drill can't be used"):
        make_folder(tmp_path / "file" / "drill", tmp_path)


def test_a_scratch_appliance_shares_neither_place_nor_secret_nor_broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")  # a short path: a long one gets its sockets elsewhere
    real = {
        "APPLIANCE_DATA": "/srv/inbox",
        "APPLIANCE_RUN": "/run/inbox",
        "APPLIANCE_HTTP": "0.0.0.0:80",
        "APPLIANCE_TOKEN_FILE": "/run/secrets/token",
        "APPLIANCE_AMQP": "127.0.0.1:5672",
        "APPLIANCE_BROKER_URL": "amqp://elsewhere",
        "APPLIANCE_URL": "http://elsewhere",
        "APPLIANCE_WORKERS": "3",
    }
    config = Scratch(folder, real).config
    assert config.data == folder / "data"
    assert config.run is None
    assert config.http.host == "127.0.0.1"
    assert (config.token, config.broker_url, config.url) == ("", "", "")
    assert config.sources["APPLIANCE_AMQP"] == "default"
    assert config.workers == 3


def test_a_long_path_gets_a_run_folder_elsewhere_which_is_removed(tmp_path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    scratch = Scratch(folder, {})
    run = scratch.config.run
    assert run is not None
    assert run.is_dir()
    scratch.remove(keep=False)
    assert not run.exists()
    assert not folder.exists()


def test_an_fsync_takes_time_and_leaves_no_file(tmp_path):
    seconds = fsync_seconds(tmp_path, 5.0)
    assert len(seconds) > 1
    assert min(seconds) > 0
    assert list(tmp_path.iterdir()) == []


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 51.0
    assert percentile(values, 0.99) == 100.0
    assert percentile([7.0], 0.99) == 7.0


def test_the_report_says_whether_the_promise_was_kept():
    report = DrillReport(sent=1200, accepted=1100, stored=1100, seconds=10, kills={"api": 2})
    assert "Every message that was answered 202 is stored once" in report_lines(report)[-1]
    assert any("110 a second" in line for line in report_lines(report))
    report.refused, report.unanswered = 2, 1030
    lines = [line.split() for line in report_lines(report)]
    assert ["answered", "503", "2", "requests"] in lines
    assert ["no", "answer", "1,030", "requests"] in lines
    report.faults.append("1 answered 202 and missing: drill-0 7")
    report.missing = 1
    assert report_lines(report)[-2:] == [
        "THE PROMISE WAS BROKEN",
        "  1 answered 202 and missing: drill-0 7",
    ]
    assert "proves nothing" in report_lines(DrillReport())[-1]


@pytest.mark.parametrize(
    ("stored", "missing", "words"),
    [
        (709, 0, "stored 709 all 709 that were answered 202"),
        (711, 0, "stored 711 all 709 that were answered 202, and 2 whose answers were lost"),
        (710, 0, "stored 710 all 709 that were answered 202, and 1 whose answer was lost"),
        (708, 1, "stored 708"),
    ],
)
def test_the_reports_numbers_of_messages_add_up(stored, missing, words):
    report = DrillReport(sent=881, accepted=709, stored=stored, missing=missing, unanswered=266)
    lines = [" ".join(line.split()) for line in report_lines(report)]
    assert words in lines
    assert "no answer 266 requests" in lines


def test_the_drill_needs_nothing_that_only_developers_have():
    code = "import sys, appliance.cli.commands.drill; print({'httpx', 'pytest'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
