"""The quarantine's bounds: whoever fills it loses their own letters, and nobody else any."""

import json
import time
from dataclasses import replace

import pytest
from store_contents import IDS, TIME

from appliance.model.contents import DeadLetter
from appliance.store.rows import Choice
from appliance.store.sql.quarantine import QuarantineBounds, _level

KIB = 1024


@pytest.fixture
def bounds(store, writer):
    def keep(most_bytes, age=0.0):
        QuarantineBounds(store._database, most_bytes, age, lambda _: False).keep()

    return keep


def letters(source, count, size=2 * KIB, reason="bad-signature"):
    meta = json.dumps({"quarantine": source}) if source else None
    return [
        DeadLetter(
            "t", IDS.new(), TIME, b"%8d" % n + b"x" * (size - 8), reason, "e", "", None, meta
        )
        for n in range(count)
    ]


def kept(store):
    """Return the numbers of the letters that are there, by source."""
    found = {}
    for letter in store.dead_letters.page(Choice(after=0), 1000).rows:
        source = json.loads(letter.meta)["quarantine"] if letter.meta else None
        found.setdefault(source, []).append(int(letter.body[:8]))
    return found


def test_a_source_that_fills_the_quarantine_loses_its_oldest_letters_and_no_other_any(
    store, writer, bounds
):
    writer.store(letters("inbox till", 3))
    writer.store(letters(None, 4, reason="conflict"))
    writer.store(letters("inbox github", 250))
    writer.store(letters("topic orders", 2, reason="schema"))
    bounds(100 * KIB)
    found = kept(store)
    assert found[None] == [0, 1, 2, 3]
    assert found["inbox till"] == [0, 1, 2]
    assert found["topic orders"] == [0, 1]
    assert found["inbox github"] == list(range(250 - len(found["inbox github"]), 250))
    totals = store.dead_letters.quarantine()
    assert 85 * KIB < totals.bytes <= 95 * KIB
    assert totals.letters == 5 + len(found["inbox github"])
    assert (totals.pushed_out, totals.expired) == (250 - len(found["inbox github"]), 0)


def test_a_quarantine_within_its_bounds_is_left_alone(store, writer, bounds):
    writer.store(letters("inbox a", 10))
    bounds(100 * KIB, age=86400)
    assert len(kept(store)["inbox a"]) == 10
    assert store.dead_letters.quarantine().pushed_out == 0


def test_a_letter_with_a_nul_in_its_meta_counts_too(store, writer, bounds):
    meta = json.dumps({"quarantine": "inbox a", "headers": {"x": "\0", "y": "\\\0\\u0000"}})
    writer.store([replace(letter, meta=meta) for letter in letters("inbox a", 30)])
    assert store.dead_letters.quarantine().letters == 30
    bounds(20 * KIB)
    assert 0 < store.dead_letters.quarantine().letters < 20


def test_tiny_letters_count_too(store, writer, bounds):
    writer.store(letters("inbox a", 300, size=8))
    bounds(100 * KIB)
    assert len(kept(store)["inbox a"]) == 95
    assert store.dead_letters.quarantine().pushed_out == 205


def test_one_letter_larger_than_everything_goes(store, writer, bounds):
    writer.store([*letters("inbox a", 1, size=300 * KIB), *letters("inbox b", 1)])
    bounds(100 * KIB)
    assert list(kept(store)) == ["inbox b"]


def test_letters_beyond_their_age_go_and_are_counted_apart(store, writer, bounds):
    writer.store(letters("inbox a", 150))
    writer.store(letters(None, 2, reason="conflict"))
    time.sleep(0.02)
    bounds(2**30, age=0.001)
    assert kept(store) == {None: [0, 1]}
    totals = store.dead_letters.quarantine()
    assert (totals.letters, totals.bytes, totals.oldest_at) == (0, 0, None)
    assert (totals.pushed_out, totals.expired) == (0, 150)


def test_a_stop_ends_the_work_between_two_transactions(store, writer):
    writer.store(letters("inbox a", 500))
    QuarantineBounds(store._database, 50 * KIB, 0.0, lambda _: True).keep()
    assert len(kept(store)["inbox a"]) == 400
    assert store.dead_letters.quarantine().pushed_out == 100


def test_a_level_is_what_each_may_have_so_that_all_fit():
    assert _level([10, 10, 10], 100) == 100
    assert _level([10, 1000], 100) == 90
    assert _level([500, 1000], 100) == 50
    assert _level([20, 30, 1000, 2000], 150) == 50
    for sizes in ([1, 2, 3, 400], [7] * 9, [1000], [0, 5000, 5000]):
        level = _level(sizes, 30)
        assert sum(min(size, level) for size in sizes) <= 30


def test_a_meta_that_someone_wrote_by_sql_and_is_no_json_quarantines_nothing(store, writer):
    writer.store(letters("inbox a", 1))
    with store._database.writing() as connection:
        connection.execute("UPDATE dead_letters SET meta = 'no json'")
    assert store.dead_letters.quarantine().letters == 0
