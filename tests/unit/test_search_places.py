"""Places for searches that take long, and what a search does that finds none."""

from contextlib import ExitStack, suppress

import pytest
import ready_made
from console_client import ConsoleClient
from flask_app import app_of
from store_contents import many

from appliance import config as configuration
from appliance.errors import SearchBusyError
from appliance.model.conditions import parse_condition
from appliance.store import open_store
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.store.search_places import MOST, MOST_OF_ONE, SearchPlaces
from appliance.store.sql import search_range

ROWS = 300


def test_one_asker_has_a_share_of_the_places_and_all_together_have_so_many():
    places = SearchPlaces()
    with ExitStack() as stack:
        got = [stack.enter_context(places.place("ada")) for _ in range(3)]
        assert got == [True] * MOST_OF_ONE + [False]
        got += [stack.enter_context(places.place(name)) for name in ("bob", "eve", "bob", "dan")]
        assert sum(got) == MOST
        assert got[-2:] == [False, False]
    assert not places._taken


def test_a_place_is_given_back_whatever_became_of_the_search():
    places = SearchPlaces()
    for _ in range(3 * MOST):
        with suppress(ZeroDivisionError), places.place("ada") as has_place:
            assert has_place
            raise ZeroDivisionError


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})


@pytest.fixture
def store(config):
    store = open_store(config)
    ready_made.migrate(store.path)
    writer = store.open_writer()
    writer.store([many([b'{"n": %d}' % n for n in range(ROWS)])])
    writer.close()
    yield store
    store.reader.close()


@pytest.fixture
def crowded(monkeypatch):
    """Let no reader have a free place, and let a search without one have no time."""
    monkeypatch.setattr("appliance.store.search_places.MOST", 0)
    monkeypatch.setattr(search_range, "QUICK_SECONDS", 0.0)


def wanted(condition):
    return MessageFilter(where=(parse_condition(condition),))


def test_a_search_without_a_place_that_takes_long_is_refused_with_what_to_do(store, crowded):
    with pytest.raises(SearchBusyError, match="wait until another has ended"):
        store.reader.find(wanted("n=-1"), Span(), 10, asker="ada")


def test_a_search_without_a_place_answers_with_what_it_has(store, crowded, monkeypatch):
    monkeypatch.setattr(search_range, "QUICK_SECONDS", 60.0)
    assert len(store.reader.find(wanted("n>=290"), Span(), 10).rows) == 10
    assert store.reader.find(wanted("n=-1"), Span(), 10).is_complete


def test_a_list_that_nobody_filters_needs_no_place(store, crowded):
    found = store.reader.find(MessageFilter(), Span(), ROWS, asker="ada")
    assert (len(found.rows), found.is_complete) == (ROWS, True)


def test_an_export_without_a_place_comes_to_its_end_all_the_same(store, crowded, monkeypatch):
    monkeypatch.setattr(search_range, "QUICK_PATIENCE", 60.0)  # over at the first look at the clock
    pieces = list(store.reader.find_pieces(wanted("n>=0"), Span(), asker="ada"))
    assert len(pieces) > 1
    assert sorted(row.seq for rows in pieces for row in rows) == [*range(1, ROWS + 1)]


def test_a_page_that_finds_no_place_is_a_problem_with_a_time_to_try_again(store, config, crowded):
    answer = app_of(config).test_client().get("/v1/messages?where=n%3D-1")
    assert answer.status_code == 503
    assert answer.json["type"].endswith(":search-busy")
    assert answer.headers["Retry-After"] == "3"
    assert "2 searches of one token" in answer.json["detail"]


def test_the_console_says_that_other_searches_are_in_the_way(store, config, crowded):
    console = ConsoleClient(config)
    console.sign_in()
    answer = console.get("/console/messages?where=n%3D-1")
    console.close()
    assert answer.status_code == 503
    assert "wait until another has ended" in answer.text
    assert "Retry-After" in answer.headers
