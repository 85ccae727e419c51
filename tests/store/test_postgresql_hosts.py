"""Several hosts on one PostgreSQL database: who lives is seen by all, and one delivers."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from delivery_rows import NOW, SECRET, URL

from appliance import config as configuration
from appliance.errors import StoreError, StoreLockedError
from appliance.model.ids import IdSource
from appliance.model.wire import single
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.endpoint_rows import DeliveryOutcome, EndpointRow
from appliance.store.subscription_rows import Receive, SubscriptionRow

FUNCTION = "shop:check"
MANY = 2**20


@pytest.fixture
def hosts(tmp_path, lent_databases):
    """Two stores, each with a folder of its own, as two hosts have them."""
    url = lent_databases.lend()
    stores = [
        open_store(
            configuration.load(
                {
                    "APPLIANCE_DATA": str(tmp_path / name),
                    "APPLIANCE_DATABASE_URL": url,
                    "APPLIANCE_HANDLERS": f"orders={FUNCTION}",
                    "APPLIANCE_MIN_FREE_BYTES": "0",
                }
            )
        )
        for name in ("one", "two")
    ]
    yield stores
    for store in stores:
        store.handling.close()
        store.reader.close()
    lent_databases.give_back(url)


@pytest.fixture
def order(hosts):
    writer = hosts[0].open_writer()
    writer.store([single("orders", IdSource().new(), NOW, b"one")])
    writer.close()


@pytest.fixture
def subscription(hosts):
    row = SubscriptionRow("work", ("*",), 60, 5, NOW)
    hosts[0].subscriptions.create(row, "", Deed(Actor("ann", "::1"), "subscription-create", "work"))


def store_messages(host, count):
    writer, ids = host.open_writer(), IdSource()
    writer.store([single("plain", ids.new(), NOW, b"%d" % number) for number in range(count)])
    writer.close()


def received(host, limit):
    with contextlib.suppress(StoreLockedError):
        (outcome,) = host.puller.serve([Receive("work", None, limit, None)])
        return [each.message.seq for each in outcome.messages]
    return []


@pytest.fixture
def endpoint(hosts):
    row = EndpointRow(
        name="shop", url=URL, topics=("*",), where=(), settings={}, created_at=NOW, changed_at=NOW
    )
    deed = Deed(Actor("ann", "::1"), "endpoint-create", row.name)
    return hosts[0].endpoints.create(row, [SECRET], {}, 0, deed).name


def taken(handling, holder):
    with contextlib.suppress(StoreError):
        return handling.take(FUNCTION, holder, 10, MANY)
    return []


def wait_for(state):
    until = time.monotonic() + 60
    while not state():
        assert time.monotonic() < until
        time.sleep(0.05)


def end_sessions(server_side):
    """End every session of others on the database, as a host that is gone does."""
    with server_side.writing() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )


@pytest.mark.usefixtures("order")
def test_a_handlers_messages_are_not_taken_from_it_by_another_host_while_it_lives(hosts):
    here, there = hosts[0].handling, hosts[1].handling
    assert len(here.take(FUNCTION, "here", 10, MANY)) == 1
    assert there.recover(set) == 0
    assert there.take(FUNCTION, "there", 10, MANY) == []


@pytest.mark.usefixtures("order")
def test_a_handlers_messages_are_another_hosts_once_its_session_has_ended(hosts):
    here, there = hosts[0].handling, hosts[1].handling
    assert len(here.take(FUNCTION, "here", 10, MANY)) == 1
    here.close()
    assert there.recover(set) == 1
    (again,) = there.take(FUNCTION, "there", 10, MANY)
    assert again.attempts == 1


@pytest.mark.usefixtures("order")
def test_a_handler_that_has_lost_its_session_is_seen_again_with_its_next_messages(hosts):
    here, there = hosts[0].handling, hosts[1].handling
    here._presence.show("here")
    end_sessions(hosts[1]._database)
    wait_for(lambda: taken(here, "here"))  # the first tries find their sessions lost
    assert there.recover(set) == 0


def test_one_process_of_all_hosts_delivers_and_another_once_it_has_ended(hosts, endpoint):
    here, there = hosts[0].deliveries, hosts[1].deliveries
    assert here.has_active()
    assert not there.has_active()
    assert there.outfits() == []
    with pytest.raises(StoreError, match="another process"):
        there.store(DeliveryOutcome())
    assert there.is_changed()
    assert there.is_changed()  # it looks again and again
    here._presence.close()
    assert there.has_active()
    assert [each.row.name for each in there.outfits()] == [endpoint]
    assert here.outfits() == []
    with pytest.raises(StoreError, match="another process"):
        here.store(DeliveryOutcome())


@pytest.mark.usefixtures("subscription")
def test_messages_of_a_subscription_are_handed_out_once_by_two_hosts_at_once(hosts):
    store_messages(hosts[0], 60)
    got = [[], []]

    def pull(host, into):
        until = time.monotonic() + 60
        while len(got[0]) + len(got[1]) < 60 and time.monotonic() < until:
            into += received(host, 3)

    threads = [Thread(target=pull, args=pair) for pair in zip(hosts, got, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got[0] + got[1]) == list(range(1, 61))


@pytest.mark.usefixtures("subscription")
def test_messages_are_deleted_and_handed_out_at_once_without_a_deadlock(hosts):
    store_messages(hosts[0], 1)
    assert received(hosts[0], 1) == [1]
    here, there = (host._database for host in hosts)

    def delete():
        with there.writing() as connection:
            connection.execute("DELETE FROM messages WHERE seq = 1")

    with ThreadPoolExecutor(1) as pool:
        with here.writing(alone="leases") as connection:
            connection.execute("UPDATE leases SET reason = 'changed' WHERE seq = 1")
            deleted = pool.submit(delete)
            query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            query += "AND datname = current_database()"
            with there.reading() as other:
                wait_for(lambda: other.execute(query).fetchone()[0])
            connection.execute("UPDATE subscriptions SET redelivered = 1")
        deleted.result()
    assert hosts[0].subscriptions.find("work").gone == 1
