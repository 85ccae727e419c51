"""tools/cells.py: topics on several appliances, by rendezvous hashing."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools" / "cells.py"

spec = importlib.util.spec_from_file_location("cells", PROGRAM)
assert spec
assert spec.loader
cells = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cells)

LOADS = cells.zipf(2000, 1.0, 100_000)
EIGHT = [f"cell-{number}" for number in range(1, 9)]


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_cell_more_takes_topics_from_all_others_and_moves_nothing_between_them():
    before = cells.spread(LOADS, EIGHT, {})
    after = cells.spread(LOADS, [*EIGHT, "cell-9"], {})
    moved = {topic for topic in LOADS if before[topic] != after[topic]}
    assert {after[topic] for topic in moved} == {"cell-9"}
    assert {before[topic] for topic in moved} == set(EIGHT)
    change = cells.change(LOADS, before, after)
    assert change.topics == len(moved)
    assert change.topic_share == pytest.approx(1 / 9, rel=0.25)


def test_a_cell_less_moves_its_own_topics_and_no_other():
    before = cells.spread(LOADS, EIGHT, {})
    others = [cell for cell in EIGHT if cell != "cell-3"]
    after = cells.without(before, "cell-3", others)
    assert after == cells.spread(LOADS, others, {})
    moved = {topic for topic in LOADS if before[topic] != after[topic]}
    assert moved == {topic for topic, cell in before.items() if cell == "cell-3"}
    assert {after[topic] for topic in moved} == set(others)


def test_topics_are_spread_evenly_and_the_order_of_the_cells_is_no_matter():
    where = cells.spread(LOADS, EIGHT, {})
    assert where == cells.spread(LOADS, EIGHT[::-1], {})
    for cell in EIGHT:
        assert list(where.values()).count(cell) == pytest.approx(len(LOADS) / 8, rel=0.25)


def test_the_place_of_a_topic_is_the_same_for_ever():
    """Whoever runs cells has built upon it."""
    assert [cells.place(topic, EIGHT) for topic in ("orders", "logs.eu", "readings")] == [
        "cell-4",
        "cell-5",
        "cell-1",
    ]


def test_the_heaviest_topics_placed_by_hand_make_the_cells_more_even():
    def fullest(pins):
        where = cells.spread(LOADS, EIGHT, pins)
        return max(cells.totals(LOADS, where, EIGHT).values())

    pins = cells.pinned(LOADS, EIGHT, 16)
    assert len(pins) == 16
    assert fullest(pins) < fullest({})
    assert fullest(pins) >= max(LOADS.values()), "a topic is never on two cells"


def test_loads_have_the_ratio_that_zipfs_law_says_and_the_sum_that_was_asked_for():
    loads = list(cells.zipf(100, 1.0, 5000).values())
    assert sum(loads) == pytest.approx(5000)
    assert loads[0] / loads[9] == pytest.approx(10)


def test_the_program_prints_the_load_of_each_cell_and_each_change():
    done = run("--cells", "3", "--topics", "100", "--load", "1000")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("100 topics, 1,000 messages a second; the heaviest, topic-0000001")
    rows = [line.split() for line in lines if line.startswith("cell-")]
    assert [row[0] for row in rows] == ["cell-1", "cell-2", "cell-3"]
    assert sum(int(row[1]) for row in rows) == 100
    assert sum(float(row[2]) for row in rows) == pytest.approx(1000, abs=3)
    assert lines[-2].startswith("a cell more: ")
    assert lines[-1].startswith("a cell lost: ")
    assert run("--cells", "3", "--topics", "100", "--load", "1000").stdout == done.stdout


def test_the_program_reads_topics_with_their_loads_and_says_where_one_is(tmp_path):
    file = tmp_path / "loads.txt"
    file.write_text("# topic, messages a second\norders 20\nlogs.eu 0.5\n")
    done = run("--cells", "eu,us", "--topics-file", str(file))
    assert done.stdout.startswith(
        "2 topics, 20 messages a second; the heaviest, orders, has 97.6 %"
    )
    assert run("--cells", "eu,us", "--where", "orders").stdout.strip() in ("eu", "us")
    assert "Examples" in run("--help").stdout.title()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells", "0"], "expected 1 to 1000"),
        (["--cells", "a,a"], "as many different names"),
        (["--topics", "0"], "--topics: 1 to"),
        (["--load", "-1"], "--load, --capacity: more than 0"),
        (["--topics-file", "/nowhere"], "/nowhere"),
    ],
)
def test_the_program_refuses_what_makes_no_sense_with_words(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_program_names_the_line_of_a_file_that_it_can_not_read(tmp_path):
    file = tmp_path / "loads.txt"
    file.write_text("orders 20\nlogs.eu\n")
    done = run("--topics-file", str(file))
    assert done.returncode == 2
    assert f"{file}, line 2: expected TOPIC LOAD" in done.stderr
