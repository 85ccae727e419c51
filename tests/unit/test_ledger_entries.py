"""Ranges of numbers, and the ledger entries that envelopes carry."""

import itertools
import random

import pytest

from appliance.broker.publish.numbering import Numbering
from appliance.model.ledger import LedgerEntry, add, count, holes, read, remove


def as_set(ranges):
    return {number for first, last in ranges for number in range(first, last + 1)}


def check_form(ranges):
    """Ascending, not touching, and none empty."""
    assert all(first <= last for first, last in ranges)
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges))


@pytest.mark.parametrize("seed", range(40))
def test_ranges_are_sets_of_numbers_in_whatever_order_they_are_changed(seed):
    source = random.Random(seed)
    ranges, numbers = [], set()
    for _ in range(150):
        first = source.randint(1, 60)
        last = first + source.choice([0, 0, 1, 5, 30])
        if source.random() < 0.7:
            add(ranges, first, last)
            numbers |= set(range(first, last + 1))
        else:
            remove(ranges, first, last)
            numbers -= set(range(first, last + 1))
        check_form(ranges)
        assert as_set(ranges) == numbers
        assert count(ranges) == len(numbers)
        after, until = source.randint(0, 100), source.randint(0, 100)
        found = holes(ranges, after, until)
        check_form(found)
        assert as_set(found) == set(range(after + 1, until + 1)) - numbers


def test_numbers_in_order_are_one_range():
    ranges = []
    for number in range(1, 1000):
        add(ranges, number, number)
    assert ranges == [[1, 999]]


ENTRY = LedgerEntry("0123456789abcdef", 7, 5, [[2, 3], [6, 6]])


@pytest.mark.parametrize("entry", [ENTRY, LedgerEntry(ENTRY.source, None, 0, [])])
def test_an_entry_is_read_as_it_was_written(entry):
    assert read(entry.encode()) == entry
    assert read(entry.encode().encode()) == entry


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "null", "[]", "[1,2,3,4]", '["0123456789abcdef",1,0]',
        '["0123456789ABCDEF",1,0,[]]', '["0123456789abcdef",0,0,[]]',
        '["0123456789abcdef",true,0,[]]', '["0123456789abcdef",1,-1,[]]',
        '["0123456789abcdef",1,0.5,[]]', '["0123456789abcdef",1,0,[[2,1]]]',
        '["0123456789abcdef",1,0,[[1]]]', '["0123456789abcdef",1,0,[1]]',
        '["0123456789abcdef",1,0,5]', '["0123456789abcdef",1,99999999999999999999,[]]',
        '["0123456789abcdef",1,0,[' + ",".join(["[1,1]"] * 5000) + "]]", "[" * 8000, b"\xff",
    ],
)  # fmt: skip
def test_a_text_that_is_no_entry_is_none(text):
    assert read(text) is None


def test_numbers_are_given_from_one_and_settled_as_far_as_all_fates_are_known():
    numbering = Numbering()
    assert [numbering.next_number() for _ in range(4)] == [1, 2, 3, 4]
    for number, settled in [(2, 0), (4, 0), (1, 2), (3, 4)]:
        numbering.settle(number, [], kept=True)
        assert numbering.settled == settled


def test_a_number_not_kept_is_carried_until_a_confirmed_envelope_has_carried_it():
    numbering = Numbering()
    refused, lost, last = (numbering.next_number() for _ in range(3))
    numbering.settle(refused, [], kept=False)
    _, not_kept = numbering.carried(lost)
    assert not_kept == [[1, 1]]
    numbering.settle(lost, not_kept, kept=False)  # and with it the entry that it carried
    text, not_kept = numbering.carried(last)
    assert read(text) == LedgerEntry(numbering.source, 3, 2, [[1, 2]])
    numbering.settle(last, not_kept, kept=True)
    assert numbering.entry() == LedgerEntry(numbering.source, None, 3, [])


def test_a_header_stays_short_in_a_storm_of_refusals():
    """Every second envelope is refused: no two numbers make one range."""
    numbering = Numbering()
    for number in range(1, 2001):
        numbering.next_number()
        numbering.settle(number, [], kept=bool(number % 2))
    named = set()
    for _ in range(100):
        text, not_kept = numbering.carried(numbering.next_number())
        entry = read(text)
        assert len(text) < 2000
        named |= as_set(not_kept)
        # A settled number was kept, or an entry has named it.
        assert set(range(2, min(2000, entry.settled) + 1, 2)) <= named
        numbering.settle(numbering.last_number, not_kept, kept=True)
    assert named == set(range(2, 2001, 2))
    assert numbering.settled == numbering.last_number == 2100


def test_the_ranges_of_the_longest_header_are_read():
    numbering = Numbering()
    numbering._settled = [[1, 2**52]]
    numbering._not_kept = [[2**50 + 3 * n, 2**50 + 3 * n + 1] for n in range(200)]
    text, _ = numbering.carried(2**52)
    assert len(read(text).not_kept) == 64


def test_the_final_entries_name_every_number_not_kept():
    numbering = Numbering()
    assert list(numbering.final_entries()) == []
    for number in range(1, 401):
        numbering.settle(numbering.next_number(), [], kept=bool(number % 2))
    entries = list(numbering.final_entries())
    assert {entry.number for entry in entries} == {None}
    assert set().union(*(as_set(entry.not_kept) for entry in entries)) == set(range(2, 401, 2))
    assert entries[-1].settled == 400
