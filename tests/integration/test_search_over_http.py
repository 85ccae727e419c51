"""Searches over HTTP on real processes: the API beside a janitor that fills the index."""

import json
import sqlite3

import httpx
import pytest
from api_alone import ApiAlone
from harness import Process, wait_until
from store_contents import many, one

from appliance.store.sqlite import index_check, paths
from appliance.store.sqlite.database import connect

ROWS = 4000


@pytest.fixture
def api(tmp_path):
    """Of each test's own: they fill the index, change rows, and damage it."""
    api = ApiAlone(tmp_path)
    bodies = [b'{"n": %d, "text": "word %d, common"}' % (n, n) for n in range(ROWS)]
    api.fill(*(many(bodies[n : n + 500], f"orders.{n // 1000}") for n in range(0, ROWS, 500)))
    api.fill(one(b'{"n": -1, "text": "a secret word, common"}', "salaries"))
    yield api.start()
    api.close()


@pytest.fixture
def ask(api):
    """Ask as the administrator, or with another token."""
    with httpx.Client(base_url=f"http://{api.env['APPLIANCE_HTTP']}", trust_env=False) as client:

        def ask(path="/v1/messages", token=None, **query):
            headers = {"Authorization": f"Bearer {token or api.env['APPLIANCE_TOKEN']}"}
            return client.get(path, params=query or None, headers=headers, timeout=30)

        yield ask


@pytest.fixture
def janitor(api):
    process = Process("janitor", api.env, api.data.parent)
    process.start()
    yield process
    process.kill()


def found(answer):
    assert answer.status_code == 200, answer.text
    return [json.loads(row["body"])["n"] for row in answer.json()["messages"]]


def is_complete(api):
    return index_check.look(api.store.path).text.endswith("complete")


def fault(api):
    connection = connect(api.store.path, readonly=True)
    try:
        return index_check.compare(api.store.path, connection)
    finally:
        connection.close()


def test_a_search_finds_the_same_before_while_and_after_the_index_is_filled(api, ask, janitor):
    queries = [{"q": "word 1234"}, {"q": '"7, common"'}, {"q": "common", "where": "n>=3990"}]
    expected = [[1234], [7], [*range(3999, 3989, -1)]]
    looks = 0
    while not is_complete(api) or looks < 2:
        assert [found(ask(**query)) for query in queries] == expected
        looks += 1
    assert fault(api) == ""
    assert janitor.running


def test_a_token_for_some_topics_searches_these_alone(api, ask, janitor):
    wait_until(lambda: is_complete(api), "the index is complete", 60)
    wish = {"name": "report", "rights": ["read"], "topics": ["orders.1", "orders.3*"]}
    answer = httpx.post(
        f"http://{api.env['APPLIANCE_HTTP']}/v1/tokens",
        json=wish,
        headers={"Authorization": f"Bearer {api.env['APPLIANCE_TOKEN']}"},
        trust_env=False,
    )
    token = answer.json()["token"]
    assert {n // 1000 for n in found(ask(token=token, q="common", limit=1000))} == {3}
    assert found(ask(token=token, q='"7, common"')) == []
    assert found(ask(token=token, q='"1007, common"')) == [1007]
    assert found(ask(token=token, q="secret")) == []
    assert found(ask(token=token, where="n=-1")) == []
    assert found(ask(token=token, where="n=1500")) == [1500]
    assert found(ask(token=token, topic="salaries")) == []
    assert ask("/v1/topics/salaries/messages", token, q="secret").status_code == 403
    assert ask("/v1/topics/salaries/shape", token).status_code == 403
    assert "secret" not in ask(token=token, format="ndjson").text
    assert found(ask(q="secret")) == [-1]


def test_deleted_and_changed_rows_are_found_as_they_are_though_the_janitor_is_killed(api, ask):
    janitor = Process("janitor", api.env, api.data.parent)
    connection = sqlite3.connect(api.store.path, timeout=30)
    try:
        for round_number in range(3):
            janitor.start()
            first = 100 * round_number
            with connection:
                connection.execute(
                    "DELETE FROM messages WHERE seq BETWEEN ? AND ?", (first, first + 9)
                )
                connection.execute(
                    "UPDATE messages SET body = json_set(body, '$.text', 'changed') "
                    "WHERE seq BETWEEN ? AND ?",
                    (first + 10, first + 19),
                )
            changed = found(ask(q="changed", limit=1000))
            assert len(changed) == 10 * (round_number + 1)
            assert found(ask(q=f'"{changed[0]}, common"')) == []
            janitor.kill()
        janitor.start()
        wait_until(
            lambda: connection.execute("SELECT count(*) FROM search_changes").fetchone()[0] == 0,
            "no change is left", 60,
        )  # fmt: skip
        wait_until(lambda: is_complete(api), "the index is complete", 60)
        assert fault(api) == ""
        assert len(found(ask(q="changed", limit=1000))) == 30
    finally:
        connection.close()
        janitor.kill()


def test_searches_go_on_while_the_index_is_damaged_and_it_is_made_anew(api, ask, janitor):
    wait_until(lambda: is_complete(api), "the index is complete", 60)
    index = paths.search_index(api.store.path)
    connection = sqlite3.connect(index)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with index.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (index.stat().st_size - 8192))

    def is_made_anew():
        api.fill(one(b'{"n": 9999, "text": "later"}'))  # pages that a process has in memory go
        assert found(ask(q="word 3321")) == [3321]
        return "search index made anew" in janitor.log

    wait_until(is_made_anew, "the index is made anew", 60, lambda: janitor.log)
    wait_until(
        lambda: is_complete(api) and not fault(api), "the index is whole", 60, lambda: janitor.log
    )
    assert found(ask(q="word 3321")) == [3321]
