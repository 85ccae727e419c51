"""The benchmark's report: what is judged, and what is drawn."""

import re
from xml.etree import ElementTree as ET

import pytest

from bench.beside import Pair
from bench.delivering import Deliveries
from bench.large import Large
from bench.meter import Measurement
from bench.pages import QUICK, Pages, PageTime
from bench.plot import svg
from bench.report import Report
from bench.scenarios import BATCHES, ONE_TOPIC, PACED, TOPICS, WAITING, WAITS, singles_name
from bench.targets import judge

SINGLES = singles_name(64)


def measured(side, *rates, scenario=SINGLES):
    return [Measurement(scenario, side, n, rate) for n, rate in enumerate(rates)]


def verdicts(measurements, **more):
    return {target.what: target for target in judge(measurements, [], **more)}


@pytest.mark.parametrize(("rate", "met"), [(9.9, False), (10.0, True), (30.0, True)])
def test_ours_is_held_against_the_naive_design(rate, met):
    found = verdicts(measured("ours", rate) + measured("naive", 1.0))
    assert found[f"{SINGLES}: ours / naive"].met is met


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    """Not the ratio of the medians: two rounds that were disturbed say nothing of each other."""
    found = verdicts(measured("ours", 10, 100, 30) + measured("bare uvicorn", 10, 1000, 100))
    assert found[f"{SINGLES}: ours / bare uvicorn"].measured == "0.30 (0.10 to 1.00)"


def test_a_target_that_was_not_measured_is_not_judged():
    assert verdicts(measured("ours", 10)) == {}


def test_batches_are_held_against_sqlite_alone():
    found = verdicts(
        measured("ours", 79, scenario=BATCHES) + measured("SQLite alone", 100, scenario=BATCHES)
    )
    assert not found["batches: ours / SQLite alone"].met


def test_a_large_database_is_judged_by_shares_and_by_a_pages_time():
    good = Large(10**7, 100, 95, 3, 9, 20, 1000, 900)
    bad = Large(10**7, 100, 80, 3, 11, 20, 1000, 700)
    assert [t.met for t in judge([], [], good)] == [True] * 3
    assert [t.met for t in judge([], [], bad)] == [False] * 3


def test_the_report_names_every_side_its_promise_and_its_rate():
    report = Report({"CPU": "two"}, {"naive": {"what": "a thing", "durability": "a promise"}})
    report.measurements = measured("ours", 1234, 1236) + measured("naive", 100, 101)
    report.left_out = ["redis: redis-server is missing"]
    for text in (report.text(), report.markdown()):
        for part in ("two", "a thing", "a promise", "1,235", "redis-server is missing", "12.34"):
            assert part in text


def test_the_steps_of_a_series_share_one_table():
    report = Report({})
    for step, rate in ((1, 100), (2, 90)):
        report.measurements += measured("ours", rate, scenario=f"storing, in parts: {step}")
    text = report.text()
    assert text.count("**storing, in parts**") == 1
    assert re.search(r"^\| 1 +\| ours +\| +100 \|", text, re.MULTILINE)
    assert re.search(r"^\| 2 +\| ours +\| +90 \|", text, re.MULTILINE)


def test_wrong_rows_are_an_error_where_none_are_promised():
    report = Report({})
    report.measurements = measured("ours", 1) + measured("textbook", 1)
    report.measurements[1].wrong_rows = 3
    assert report.wrong_rows == 0
    report.measurements[0].wrong_rows = 1
    assert "ROWS WRONG: 1" in report.text()


def test_the_plot_is_xml_with_a_bar_for_each_side():
    picture = svg(measured("ours", 3, 4) + measured("a < b & c", 1, 2), [SINGLES, "not measured"])
    texts = ["".join(e.itertext()) for e in ET.fromstring(picture).iter() if e.tag.endswith("text")]
    assert texts == [f"{SINGLES}: stored a second", "ours", "4", "a < b & c", "2"]


def pair(without, beside, cpu=30.0):
    rounds = (Measurement("", "ours", 0, rate) for rate in (without, beside))
    found = Pair("a load", *rounds)
    found.without.cpu_us = {"api": 30.0, "broker": 20.0, "worker": 10.0}
    found.beside.cpu_us = {"api": cpu, "broker": 20.0, "worker": 10.0, "indexer": 2.5}
    return found


def test_intake_beside_something_is_judged_by_the_median_of_its_pairs():
    pairs = [pair(100, 99), pair(100, 96, 36.0), pair(100, 50)]
    found = verdicts([], pairs=pairs)["intake beside a load / without"]
    assert (found.measured, found.met) == ("0.96 (0.50 to 0.99)", True)
    assert not verdicts([], pairs=pairs[1:])["intake beside a load / without"].met
    report = Report({}, beside=pairs)
    row = next(line for line in report.text().splitlines() if line.startswith("| a load "))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == [
        "100", "96", "0.96", "0.50 to 0.99", "30.0", "20.0", "10.0", "1.00", "2.5", "0.0", "0",
    ]  # fmt: skip
    pairs[0].without.wrong_rows = 2
    assert report.wrong_rows == 2


def test_deliveries_are_judged_by_what_comes_and_by_what_the_intake_keeps():
    pairs = [pair(100, 79), pair(100, 81), pair(100, 90)]
    for each, rate in zip(pairs, (79, 81, 90), strict=True):
        each.beside.rate, each.beside.cpu_us["deliver"] = rate, 50.0
    found = Deliveries(6000, [3.0, 1.0, 2.0], [40.0, 60.0, 50.0], pairs, [1999.0, 2000.0, 2200.0])
    report = Report({}, deliveries=found)
    rate, share = report.targets()
    assert (rate.measured, rate.met) == ("2,000 (1,999 to 2,200)", True)
    assert (share.measured, share.met) == ("0.81 (0.79 to 0.90)", True)
    alone, beside = (
        [cell.strip() for cell in line.split("|")[2:-1]]
        for line in report.text().splitlines()
        if line.startswith(("| alone, 6,000 messages", "| beside the intake, 2,200/s at most"))
    )
    assert alone[:3] == ["2", "1 to 3", "50.0"]
    assert beside == ["2,000", "1,999 to 2,200", "2.0", "100", "81", "0.81", "0.79 to 0.90"]
    pairs[0].beside.wrong_rows = 1
    assert report.wrong_rows == 1
    found.beside[1] = 1999.0
    assert not report.targets()[0].met


@pytest.mark.parametrize(("p95", "met"), [(19.9, True), (20.0, False)])
def test_pages_are_judged_by_the_slowest_of_them(p95, met):
    times = [PageTime("/a", 1.0, p95, 1.0, 2.0, 1.0), PageTime("/b", 1.0, 2.0, 1.0, 3.0, 1.0)]
    report = Report({}, pages=Pages(QUICK, times, 0.0))
    wall, cpu = report.targets()
    assert (wall.measured, wall.met) == (f"{p95} ms (/a)", met)
    assert (cpu.measured, cpu.met) == ("3.0 ms (/b)", True)
    assert "at 4,000 messages" in report.text()


def test_64_topics_are_held_against_one():
    rates = measured("ours", 84, scenario=TOPICS) + measured(ONE_TOPIC, 100, scenario=TOPICS)
    assert not verdicts(rates)["64 topics / one topic"].met


@pytest.mark.parametrize(("cpu", "met"), [(110, True), (120, False)])
def test_waiting_for_the_row_is_held_against_the_cpu_of_a_202(cpu, met):
    plain, waiting = measured("ours", 1, scenario=WAITS), measured(WAITING, 1, scenario=WAITS)
    plain[0].cpu_us, waiting[0].cpu_us = {"api": 60, "worker": 40}, {"api": cpu}
    found = verdicts(plain + waiting)["64 connections: CPU a message, 201 / 202"]
    assert found.met is met


def test_time_from_the_commit_to_the_201_is_judged():
    waiting = measured(WAITING, 200, scenario=PACED)
    waiting[0].commit = {"accepted_to_committed_p50_ms": -0.7}
    found = verdicts(waiting)["200/s: commit seen to 201, p50"]
    assert (found.measured, found.met) == ("0.70 ms", False)
