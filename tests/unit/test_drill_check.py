"""The drill's journal and check: what they count, and that each kind of fault is found."""

import itertools
import uuid

import pytest

from appliance.drill.check import StoredRow, check
from appliance.drill.journal import Attempt, Fate, Journal, number_of, text

IDS = (str(uuid.UUID(int=number)) for number in itertools.count(1))


def attempt(topic, first, status=202, count=1, problem=""):
    ids = tuple(next(IDS) for _ in range(count)) if status == 202 else ()
    return Attempt(topic, first, count, status, ids, float(first), 0.5, problem=problem)


def noted(*attempts):
    journal = Journal()
    journal.begin()
    for one in attempts:
        journal.note(one)
    return journal


@pytest.fixture
def attempts():
    """Two topics, ten messages each: eight alone, then two in one request."""
    return [
        *(attempt(topic, number) for number in range(8) for topic in ("a", "b")),
        attempt("a", 8, count=2),
        attempt("b", 8, count=2),
    ]


@pytest.fixture
def rows(attempts):
    return [
        StoredRow(one.topic, message, text(one.topic, one.first + place))
        for one in attempts
        for place, message in enumerate(one.ids)
    ]


def faults(attempts, rows):
    return {kind.name: kind.count for kind in check(noted(*attempts), rows).faults}


def test_a_store_with_all_of_it_once_and_in_order_has_no_fault(attempts, rows):
    findings = check(noted(*attempts), rows)
    assert findings.faults == []
    assert findings.stored == 20


def test_second_row_of_a_topic_that_may_double_is_counted_and_is_no_fault(attempts, rows):
    findings = check(noted(*attempts), [*rows, rows[0], rows[1]], may_double={"a"})
    assert (findings.doubled, findings.twice.count) == (1, 1)
    missing = check(noted(*attempts), rows[1:], may_double={"a"}, accepted="acknowledged")
    assert [str(each)[:27] for each in missing.faults] == ["1 acknowledged and missing:"]


def test_message_whose_door_tells_no_id_may_have_any():
    journal = noted(Attempt("a", 0, 1, 202, (), 0.0, 0.5))
    assert check(journal, [StoredRow("a", next(IDS), text("a", 0))]).faults == []
    assert check(journal, []).missing.count == 1


def test_topics_may_be_stored_in_any_order_of_each_other(attempts, rows):
    assert faults(attempts, sorted(rows, key=lambda row: row.topic)) == {}


def test_a_removed_row_is_missing(attempts, rows):
    del rows[3]
    assert faults(attempts, rows) == {"answered 202 and missing": 1}


def test_every_row_removed_is_missing(attempts):
    assert faults(attempts, []) == {"answered 202 and missing": 20}


def test_a_doubled_row_is_found(attempts, rows):
    assert faults(attempts, [*rows, rows[0]]) == {"stored twice": 1}
    again = rows[0]._replace(id=next(IDS))
    assert faults(attempts, [*rows, again]) == {"stored twice": 1}


@pytest.mark.parametrize(
    "alien",
    [
        ("a", "hello"),
        ("c", text("c", 0)),
        ("a", text("a", 10)),  # one more than was sent
        ("a", text("b", 3)),
        ("a", text("a", 3)[:-1]),
        ("a", text("a", 3).encode()),
        ("a", b"\xff"),
        ("a", "a \u0663 ."),
    ],
    ids=repr,
)
def test_a_row_that_nobody_sent_is_found(attempts, rows, alien):
    topic, body = alien
    assert faults(attempts, [*rows, StoredRow(topic, next(IDS), body)]) == {
        "stored but never sent, or changed": 1
    }


def test_a_row_with_another_id_than_was_answered_is_found(attempts, rows):
    rows[5] = rows[5]._replace(id=next(IDS))
    assert faults(attempts, rows) == {"stored under another id than was answered": 1}


def test_swapped_rows_of_one_topic_are_found(attempts, rows):
    rows[2], rows[4] = rows[4], rows[2]
    assert faults(attempts, rows) == {"stored out of order": 1}


def test_a_request_without_an_answer_may_be_there_once_or_not_at_all(attempts, rows):
    lost = attempt("a", 10, status=0)
    row = StoredRow("a", next(IDS), text("a", 10))
    assert faults([*attempts, lost], rows) == {}
    assert faults([*attempts, lost], [row, *rows]) == {}  # its place is not promised
    assert faults([*attempts, lost], [*rows, row, row]) == {"stored twice": 1}


@pytest.mark.parametrize(
    ("status", "problem", "may_be_there"),
    [(503, "refused", False), (503, "not-confirmed", True), (500, "internal", True)],
)
def test_a_refused_message_must_not_be_there(attempts, rows, status, problem, may_be_there):
    refused = attempt("a", 10, status=status, problem=problem)
    row = StoredRow("a", next(IDS), text("a", 10))
    assert faults([*attempts, refused], rows) == {}
    found = faults([*attempts, refused], [*rows, row])
    assert found == ({} if may_be_there else {"refused and stored all the same": 1})


def test_a_request_stored_in_part_is_found(attempts, rows):
    lost = attempt("a", 10, status=0, count=3)
    part = [StoredRow("a", next(IDS), text("a", number)) for number in (10, 11, 12)]
    assert faults([*attempts, lost], [*rows, *part]) == {}
    assert faults([*attempts, lost], [*rows, *part[:2]]) == {"requests stored in part": 1}


def test_the_best_answer_to_a_message_counts():
    tries = [
        attempt("a", 0, status=503, problem="refused"),
        attempt("a", 0, status=0),
        attempt("a", 0),
        attempt("a", 0, status=503, problem="refused"),
    ]
    journal = noted(*tries)
    assert journal.sheets["a"].fate(0) is Fate.ACCEPTED
    assert journal.sheets["a"].id(0) == tries[2].id
    assert (journal.sent, journal.accepted) == (1, 1)
    assert journal.answers == {503: 2, 0: 1, 202: 1}


def test_the_longest_outage_is_the_longest_time_without_a_202(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 10.0)
    journal = noted()
    for began in (11.0, 12.0, 20.5, 21.0):
        journal.note(Attempt("a", int(began), 0, 202, (), began, 0.5))
        journal.note(Attempt("a", int(began), 0, 503, (), began + 0.7, 0.5))
    assert journal.longest_outage == 8.5
    monkeypatch.setattr("time.monotonic", lambda: 31.0)
    assert journal.outage == 9.5
    journal.end()
    assert journal.longest_outage == 9.5
    assert journal.outage == 0.0


def test_a_message_of_ours_is_told_from_all_others():
    for number in (0, 1, 399, 400, 123456):
        assert number_of("t", text("t", number)) == number
    for body in ("", "t", "t 1", "t x .", "t -1 .", "u 1 .", text("t", 5) + "."):
        assert number_of("t", body) is None
