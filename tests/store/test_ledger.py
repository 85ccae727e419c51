"""The ledger: which envelopes came, and which are missing."""

import pytest
from store_contents import IDS, TIME, one

from appliance.model import ledger
from appliance.model.contents import DeadLetter, LedgerReport
from appliance.model.wire import Envelope, Kind

SOURCE = "0123456789abcdef"
OTHER = "fedcba9876543210"


@pytest.fixture
def sums(store):
    """The sums of all sources, as `appliance verify` shows them."""
    return lambda: store.verify(quick=True, alone=False, progress=lambda *_: None).sources


@pytest.fixture
def missing(sums):
    """The numbers that are missing, and how many they are."""
    return lambda: (sums().missing, [each.missing_ranges for each in sums().gaps if each.missing])


@pytest.fixture
def unaccounted(store):
    """How many of the numbers up to `settled` are not in the store, nor missing."""
    return lambda settled, not_kept=(): store.unaccounted(
        ledger.LedgerEntry(SOURCE, None, settled, list(not_kept))
    )


def entry(number, settled=0, not_kept=(), source=SOURCE):
    return ledger.LedgerEntry(source, number, settled, list(not_kept)).encode()


def envelope(*entry_values, **more):
    message = one()
    return Envelope("t", message.kind, message.id, TIME, 1, 1, b"x", entry(*entry_values, **more))


def test_envelopes_that_came_in_order_are_accounted_for(writer, sums, unaccounted):
    for number in range(1, 30):
        assert writer.store([envelope(number, number - 1)]) == 0
    assert (sums().total, sums().accounted, sums().missing, sums().unknown) == (1, 29, 0, 0)
    assert (unaccounted(29), unaccounted(31)) == (0, 2)


def test_each_api_process_is_a_source_of_its_own(writer, sums):
    writer.store(
        [envelope(1), envelope(1, source=OTHER), envelope(2, 1), envelope(2, source=OTHER)]
    )
    assert (sums().total, sums().accounted, sums().missing) == (2, 4, 0)


def test_two_sources_that_send_in_turn_are_both_accounted_for(store, writer, sums):
    """Several API processes send at the same time, alone in a transaction and together."""
    for number in range(1, 40, 2):
        assert writer.store([envelope(number, number - 1)]) == 0
        assert writer.store([envelope(number, number - 1, source=OTHER)]) == 0
        both = [envelope(number + 1, number), envelope(number + 1, number, source=OTHER)]
        assert writer.store(both) == 0
    assert (sums().total, sums().accounted, sums().missing) == (2, 80, 0)
    assert writer.store([envelope(43, 42)]) == 2
    assert writer.store([envelope(44, 43, source=OTHER)]) == 3
    assert {gap.source: gap.missing_ranges for gap in sums().gaps} == {
        SOURCE: [[41, 42]],
        OTHER: [[41, 43]],
    }


def test_many_sources_are_accounted_for_whichever_sends_next(writer, sums):
    names = [f"{n:016x}" for n in range(200)]
    for number in (1, 2, 3):
        for name in names:
            assert writer.store([envelope(number, number - 1, source=name)]) == 0
    assert (sums().total, sums().accounted, sums().missing) == (200, 600, 0)


def test_an_envelope_that_was_confirmed_and_never_came_is_missing_and_reported_once(
    writer, missing
):
    writer.store([envelope(1)])
    assert writer.store([envelope(5, 3)]) == 2  # 4 may have been refused: nothing is known of it
    assert missing() == (2, [[[2, 3]]])
    assert writer.store([envelope(6, 5)]) == 1
    assert writer.store([envelope(7, 6)]) == 0
    assert missing() == (3, [[[2, 4]]])


def test_the_first_envelopes_are_missed_too(writer, missing):
    assert writer.store([envelope(4, 3)]) == 3
    assert missing() == (3, [[[1, 3]]])


def test_envelopes_that_were_not_kept_are_not_missing(writer, sums):
    assert writer.store([envelope(1), envelope(4, 3, [[2, 3]])]) == 0
    assert (sums().accounted, sums().not_kept, sums().missing) == (4, 2, 0)


def test_an_envelope_that_was_given_up_and_comes_after_all_is_no_error(writer, sums):
    assert writer.store([envelope(1), envelope(3, 2, [[2, 2]]), envelope(2, 1)]) == 0
    assert writer.store([envelope(2, 1)]) == 0
    assert (sums().accounted, sums().not_kept, sums().missing) == (3, 1, 0)


def test_a_redelivery_changes_no_sum(writer, sums):
    group = [envelope(1), envelope(2, 1), envelope(4, 3)]
    assert writer.store(group) == 1
    before = sums()
    assert writer.store(group) == 0
    assert sums() == before


def test_an_envelope_that_comes_late_is_not_missing_any_more(writer, sums):
    """From the broker's own queue of dead letters, for one, which is another way."""
    assert writer.store([envelope(1), envelope(3, 2)]) == 1
    assert writer.store([envelope(2, 1)]) == 0
    assert (sums().accounted, sums().missing) == (3, 0)


def test_a_worker_that_takes_over_goes_on_where_the_other_was(store, writer, missing):
    """Each remembers what it wrote last, and must not trust that once the other has written."""
    other = store.open_writer()
    writer.store([envelope(1)])
    assert other.store([envelope(2, 1), envelope(3, 2)]) == 0
    assert writer.store([envelope(4, 3)]) == 0
    assert other.store([envelope(7, 5)]) == 1
    assert writer.store([envelope(8, 7)]) == 1
    assert other.store([envelope(8, 7)]) == 0
    other.close()
    assert missing() == (2, [[[5, 6]]])


def test_a_report_settles_the_numbers_before_it(writer, missing, sums):
    writer.store([envelope(1)])
    assert writer.store([LedgerReport(entry(None, 3, [[2, 2]]).encode())]) == 1
    assert missing() == (1, [[[3, 3]]])
    assert sums().not_kept == 1


def test_an_envelope_that_becomes_a_dead_letter_did_come(writer, sums):
    undecodable = Envelope("t", Kind.PACK, IDS.new(), TIME, 1, 1, b"[", entry(1))
    letter = DeadLetter("NO TOPIC", IDS.new(), TIME, b"x", "bad-topic", "why", entry(2, 1))
    assert writer.store([undecodable, letter, envelope(3, 2)]) == 0
    assert (sums().accounted, sums().missing) == (3, 0)


@pytest.mark.parametrize("text", ["", "x", '["odd",1,0,[]]', "[" * 9000])
def test_an_envelope_without_an_entry_is_stored_all_the_same(writer, sums, contents, text):
    message = one()
    writer.store([Envelope("t", message.kind, message.id, TIME, 1, 1, b"x", text)])
    assert sums().total == 0
    assert contents.bodies() == [b"x"]


def test_entries_that_are_written_later_are_not_accounted_for_before(
    writer, sums, unaccounted, contents
):
    writer.store([envelope(1)])
    first, second = envelope(2, 1), envelope(3, 1)
    assert writer.store([first], account=False) == 0
    assert writer.store([second], account=False) == 0
    assert (sums().accounted, unaccounted(3)) == (1, 2)
    later = [LedgerReport(each.ledger, each.received_at) for each in (first, second)]
    assert writer.store([*later, envelope(5, 3)]) == 0
    assert (sums().accounted, sums().missing, sums().unknown) == (4, 0, 1)
    assert len(contents.bodies()) == 4


def test_missing_envelopes_that_are_accepted_are_not_reported_again(store, writer, missing, sums):
    writer.store([envelope(4, 3), envelope(9, 4)])
    assert store.accept_missing() == 3
    assert store.accept_missing() == 0
    assert (missing(), sums().accepted) == ((0, []), 3)
    assert writer.store([envelope(10, 9)]) == 4
    assert missing() == (4, [[[5, 8]]])


def test_unaccounted_leaves_out_envelopes_that_are_missing_or_not_kept(writer, unaccounted):
    writer.store([envelope(1), envelope(4, 3, [[3, 3]])])
    assert unaccounted(4) == 0  # the second is missing
    assert unaccounted(9, [[6, 7]]) == 3
