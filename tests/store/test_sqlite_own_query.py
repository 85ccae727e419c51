"""A query of somebody's own in SQLite: what it is refused for, in words."""

import pytest
from store_contents import many, one

from appliance.errors import InputError
from appliance.model.topics import CANARY_TOPIC
from appliance.store.replay_rows import ReplaySelection
from appliance.store.sqlite.own_query import seqs_found


@pytest.fixture
def engine():
    return "sqlite"


@pytest.fixture
def filled(store, writer):
    writer.store([many([b"text", b"\0\xff"]), one(b"canary", CANARY_TOPIC)])
    return store


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT seq FROM messages; DROP TABLE messages", "syntax error"),
        ("SELECT id FROM messages", "whole numbers.*found the text"),
        ("SELECT 1.5", "found 1.5"),
        ("SELECT NULL", "found NULL"),
        ("SELECT body FROM messages WHERE typeof(body) = 'blob'", "found bytes"),
        ("SELECT seq FROM nowhere", "no such table: nowhere"),
        ("SELECT * FROM pragma_user_version", "only read"),
        ("SELECT length(hex(randomblob(400000000)))", "more than 64 MiB of memory"),
    ],
)
def test_a_query_that_sqlite_finds_no_numbers_by_is_refused_in_words(filled, sql, words):
    with pytest.raises(InputError, match=rf"(?s)sql: .*{words}"):
        filled.replays.choose(ReplaySelection(sql=sql))
    assert filled.reader.totals().messages == 3


def test_a_query_without_an_end_is_ended(filled):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(InputError, match=r"sql: it took longer than .* and was ended"):
        list(seqs_found(filled.path, endless, 0.05))
