"""The writer on PostgreSQL: what is as usual goes in one round trip, and all else with care."""

import threading

import psycopg
import pytest
from postgres import PostgresServer
from store_contents import IDS, TIME, lines, many, one, scattered

from appliance import config as configuration
from appliance.errors import StoreError, StoreLockedError, TablesError
from appliance.model.contents import LedgerReport
from appliance.model.wire import Message, pack
from appliance.store import open_store
from appliance.store.postgresql import patience
from appliance.store.postgresql.hosts import Hosts


def store_of(folder, url):
    environ = {"APPLIANCE_DATA": str(folder), "APPLIANCE_DATABASE_URL": url}
    return open_store(configuration.load(environ))


@pytest.fixture
def url(lent_databases):
    url = lent_databases.lend()
    yield url
    lent_databases.give_back(url)


@pytest.fixture
def store(tmp_path, url):
    store = store_of(tmp_path, url)
    yield store
    store._connections.close()


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    writer.store([one(b"first")])  # from now on it knows the last number
    yield writer
    writer.close()


@pytest.fixture
def ask(url):
    with psycopg.connect(url, autocommit=True) as connection:
        yield lambda query, *values: connection.execute(query, values).fetchall()


def bodies(store):
    return [body for _, _, body in store.rows()]


def test_every_kind_in_one_round_trip_is_stored_as_it_came(store, writer, ask):
    messages = [
        Message(IDS.new(), TIME, b"5", "text/csv", '{"via":"cli"}'),
        Message(IDS.new(), TIME, b"\xff\0"),
    ]
    writer.store([one(b"2"), lines([b"3", "4\u00e4".encode()]), pack("u", messages, 3)])
    assert bodies(store) == ["first", "2", "3", "4\u00e4", "5", b"\xff\0"]
    assert ask("SELECT seq FROM messages ORDER BY seq") == [(n,) for n in range(1, 7)]
    assert ask("SELECT last_seq FROM shards") == [(6,)]
    assert ask("SELECT content_type, meta FROM messages WHERE topic = 'u' ORDER BY seq") == [
        ("text/csv", '{"via":"cli"}'), (None, None),
    ]  # fmt: skip
    assert ask("SELECT topic, messages, bytes FROM topics ORDER BY topic") == [
        ("t", 4, 10), ("u", 2, 3),
    ]  # fmt: skip


def test_message_that_is_stored_already_holds_up_none_beside_it(store, writer, ask):
    known = one(b"known")
    writer.store([known])
    writer.store([one(b"before"), known, lines([b"after"])])
    writer.store([one(b"last")])
    assert bodies(store) == ["first", "known", "before", "after", "last"]
    assert ask("SELECT messages FROM topics") == [(5,)]
    assert (writer._tally.stored, writer._tally.duplicates) == (5, 1)


def test_row_that_a_constraint_refuses_is_a_dead_letter_and_the_rest_is_stored(store, writer, ask):
    with psycopg.connect(store._url, autocommit=True) as connection:
        connection.execute("ALTER TABLE messages ADD CONSTRAINT mine CHECK (body <> 'bad')")
    writer.store([one(b"1"), one(b"bad"), many([b"2", b"bad", b"3"]), lines([b"4", b"bad", b"5"])])
    writer.store([one(b"6")])
    assert bodies(store) == ["first", "1", "2", "3", "4", "5", "6"]
    assert [row[0] for row in ask("SELECT reason FROM dead_letters")] == ["unstorable"] * 3


def test_trigger_that_leaves_a_row_out_is_noticed_before_the_commit(store, writer, ask):
    with psycopg.connect(store._url, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF new.body = 'no' THEN RETURN NULL; END IF; RETURN new; END $$;
            CREATE TRIGGER mine BEFORE INSERT ON messages
            FOR EACH ROW EXECUTE FUNCTION mine()
        """)
    writer.store([one(b"1"), one(b"no"), one(b"2")])
    assert bodies(store) == ["first", "1", "2"]
    assert ask("SELECT convert_from(body, 'UTF8') FROM dead_letters") == [("no",)]


def test_writer_that_another_one_overtook_goes_on_behind_it(store, writer):
    other = store.open_writer()
    other.store([one(b"other")])
    other.store([one(b"other 2")])
    writer.store([one(b"mine")])
    other.store([one(b"other 3")])
    other.close()
    assert bodies(store) == ["first", "other", "other 2", "mine", "other 3"]


def test_ledger_goes_with_the_messages_in_one_round_trip(store, writer, ask):
    for number in range(1, 5):
        writer.store([LedgerReport(f'["{"a" * 16}",{number},{number},[]]', TIME), one(b"x")])
    assert ask("SELECT accounted, settled FROM sources") == [("[[1,4]]", 4)]


def test_messages_of_several_topics_are_counted_each_in_its_own(writer, ask):
    writer.store([scattered([b"1", b"22", b"333", b"4444"])])
    assert ask("SELECT topic, messages, bytes FROM topics ORDER BY topic") == [
        ("t", 3, 10), ("u", 1, 2), ("v", 1, 3),
    ]  # fmt: skip


def test_tables_that_take_no_row_are_said_when_the_writer_is_opened(store, url):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE messages RENAME COLUMN meta TO other")
    with pytest.raises(TablesError, match="meta"):
        store.open_writer()


def test_tables_that_are_changed_under_a_writer_are_no_messages_fault(writer, url):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE messages RENAME COLUMN meta TO other")
    with pytest.raises(TablesError):
        writer.store([one(b"x")])


def test_connection_that_is_ended_is_seen_by_an_idle_writer_too(store, writer, ask):
    writer.check()
    ask("SELECT pg_terminate_backend(%s, 10000)", writer._driver.info.backend_pid)
    with pytest.raises(StoreError):
        writer.check()


def test_connection_that_is_ended_is_a_store_error_and_a_new_writer_stores_it_once(
    store, writer, ask
):
    envelope = one(b"again")
    ask("SELECT pg_terminate_backend(%s, 10000)", writer._driver.info.backend_pid)
    with pytest.raises(StoreError):
        writer.store([envelope])
    new = store.open_writer()
    new.store([envelope])
    new.store([envelope])
    new.close()
    assert bodies(store) == ["first", "again"]


@pytest.fixture
def lonely(tmp_path):
    """A store whose commits wait for a standby that is not there, and its administrator."""
    server = PostgresServer()
    url = server.new_database(migrated=True)
    store = store_of(tmp_path, url)
    with psycopg.connect(url, autocommit=True) as administrator:
        wait_for_standbys(administrator, "none")
        yield store, administrator
    store._connections.close()
    server.remove()


def wait_for_standbys(administrator, names):
    administrator.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    administrator.execute("SELECT pg_reload_conf()")
    while administrator.execute("SHOW synchronous_standby_names").fetchone()[0] != names:
        pass


def cancel_the_wait(administrator):
    while not administrator.execute("""
        SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'
    """).fetchall():
        pass


def test_commit_that_no_standby_answers_is_given_up_and_not_acknowledged(lonely, monkeypatch):
    monkeypatch.setattr(patience, "COMMIT_SECONDS", 1.0)
    store, administrator = lonely
    envelope = one(b"waits")
    writer = store.open_writer()
    with pytest.raises(StoreError, match="no answer within 1 s"):
        writer.store([envelope])
    writer.close()
    # The old commit still waits, with the lock that is the order of storing.
    other = store.open_writer()
    other._connection.execute("SET lock_timeout = 100")
    with pytest.raises(StoreLockedError):
        other.store([envelope])
    other.close()
    cancel_the_wait(administrator)
    wait_for_standbys(administrator, "")
    last = store.open_writer()
    last.store([envelope])
    last.close()
    assert bodies(store) == ["waits"]


def test_commit_that_was_cancelled_while_it_waited_for_a_standby_is_no_commit(lonely):
    store, administrator = lonely
    writer = store.open_writer()
    thread = threading.Thread(target=cancel_the_wait, args=(administrator,))
    thread.start()
    with pytest.raises(StoreError, match="synchronous replication"):
        writer.store([one(b"x")])
    thread.join()
    writer.close()


@pytest.mark.parametrize(
    ("url", "host", "port", "order"),
    [
        ("postgresql://a:1,b:2/x", "a", 1, "b,a 2,1"),
        ("postgresql://a:1,b:2/x", "b", 2, "a,b 1,2"),
        ("host=a,b,c dbname=x", "b", 5432, "a,c,b "),
        ("host=a,b port=5 dbname=x", "a", 5, "b,a 5,5"),
        ("host=a dbname=x", "a", 5432, "a "),
    ],
)
def test_host_that_did_not_answer_is_tried_last(url, host, port, order):
    hosts = Hosts(url)
    hosts.put_last(host, port)
    known = psycopg.conninfo.conninfo_to_dict(hosts.url)
    assert f"{known['host']} {known.get('port', '')}" == order
    assert known["dbname"] == "x"


def test_workers_that_store_at_once_have_every_place_once_and_no_reader_skips_a_row(
    tmp_path, url, ask
):
    environ = {
        "APPLIANCE_DATA": str(tmp_path), "APPLIANCE_DATABASE_URL": url, "APPLIANCE_SHARDS": "2",
        "APPLIANCE_BROKER_URL": "amqp://broker.example",
    }  # fmt: skip
    store = open_store(configuration.load(environ))
    writers = [store.open_writer() for _ in range(2)]
    groups = [
        [
            group
            for n in range(40)
            for group in ([one(b"%d" % n, name), lines([b"%d" % n] * 3, name)], [one(b"40", name)])
        ]
        for name in ("w0", "w1")
    ]
    careful = []

    def work(number):
        writer = writers[number]
        give_up = writer._give_up_quickly
        writer._give_up_quickly = lambda: (careful.append(number), give_up())
        for group in groups[number]:
            writer.store(group)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    seen, last = [], 0
    while any(thread.is_alive() for thread in threads) or not seen:
        page = ask("SELECT seq FROM messages WHERE seq > %s ORDER BY seq", last)
        seen += [seq for (seq,) in page]
        last = seen[-1] if seen else 0
    for thread in threads:
        thread.join()
    seen += [seq for (seq,) in ask("SELECT seq FROM messages WHERE seq > %s ORDER BY seq", last)]
    assert seen == list(range(1, 401))
    assert ask("SELECT last_seq FROM shards") == [(400,)]
    for number in range(2):
        found = [int(body) for topic, _, body in store.rows() if topic == f"w{number}"]
        assert found == [each for n in range(40) for each in (n, n, n, n, 40)]
    assert careful == []  # each stored in one round trip, whatever the other one stored meanwhile
    for writer in writers:
        writer.close()
    store._connections.close()
