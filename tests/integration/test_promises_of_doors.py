"""The doors keep what they say: the answers of an inbox address, and what is on the disk then."""

import pytest
from harness import wait_until
from load import depth, wait_accepting

from appliance.model.doors import DOORS


@pytest.fixture(scope="module")
def running(module_stack):
    """An appliance whose worker is stopped: all that is kept is in the broker's queue."""
    made = module_stack(workers=1)
    made.workers[0].stop()
    return made


def address_of(stack, topic, **wanted):
    made = stack.client.post("/v1/inboxes", json={"topic": topic, **wanted})
    assert made.status_code == 201, made.text
    return "/in/" + made.json()["address"].rpartition("/in/")[2]


def test_inbox_has_on_disk_what_it_answered_as_taken_and_nothing_of_a_challenge(running):
    post = running.client.post
    plain = address_of(running, "plain")
    form = address_of(running, "form", kind="form", settings={"redirect": "https://example.com"})
    checked = address_of(
        running, "checked", kind="github", secrets=["s" * 32], settings={"on_invalid": "quarantine"}
    )
    answer = running.client.get(plain, params={"challenge": "abc"})
    assert (answer.status_code, answer.text) == (200, "abc")
    assert depth(running) == 0
    first = post(plain, content=b"once", headers={"Idempotency-Key": "k"})
    again = post(plain, content=b"once", headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert post(form, data={"name": "x"}).status_code == 303
    for _ in range(2):
        kept = post(checked, content=b"{}")
        assert (kept.status_code, kept.json()["status"]) == (202, "quarantined")
    assert depth(running) == 4
    running.broker.process.kill()
    running.broker.start()
    wait_accepting(running)
    running.workers[0].start()
    running.wait_ready()
    wait_until(lambda: running.count("plain") == running.count("form") == 1, "rows", 30)
    # The repeated one is one row; each attempt at the quarantine is a letter of its own.
    letters = "SELECT count(*) FROM dead_letters WHERE topic = 'checked'"
    wait_until(lambda: running.query(letters)[0][0] == 2, "letters", 30, running.logs)
    assert running.count() == 2


def test_list_of_doors_says_where_each_is_and_what_it_promises(running):
    amqp = f"amqp: {running.config.amqp}, open, for this machine only"

    def list_of_doors():
        """The list once the broker, which the test before has killed, is told to be open."""
        done = running.cli("door", "list")
        assert done.returncode == 0, done.stderr
        told = " ".join(done.stdout.decode().split())
        return told if amqp in told else None

    told = wait_until(list_of_doors, "the AMQP door is open", 60, running.logs)
    assert f"http: {running.config.http}, open, for this machine only" in told
    for door in DOORS:
        assert f"can be doubled: {door.doubled}" in told
