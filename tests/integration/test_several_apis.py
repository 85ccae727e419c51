"""Two API processes of one appliance, as behind a load balancer: what holds across them.

docs/scaling.md#several-apis says it; each has a run folder of its own, as on hosts of their own.
"""

import httpx
import pytest
from harness import Process, free_port, wait_until


@pytest.fixture(scope="module")
def one(module_stack):
    return module_stack()


@pytest.fixture(scope="module")
def other(one, tmp_path_factory):
    """A client of the second API, with the administrator's token."""
    folder, address = tmp_path_factory.mktemp("other"), f"127.0.0.1:{free_port()}"
    env = {**one.env, "APPLIANCE_HTTP": address, "APPLIANCE_RUN": str(folder / "run")}
    process = Process("api-2", env, folder)
    process.start()
    with httpx.Client(
        base_url=f"http://{address}",
        headers=one.client.headers,
        timeout=30,
        trust_env=False,
    ) as client:
        try:
            wait_until(lambda: _takes(client), "the second API takes messages", 90,
                       lambda: process.log)  # fmt: skip
            yield client
        finally:
            process.kill()


def _takes(client):
    try:
        return client.get("/readyz/intake").status_code == 200
    except httpx.TransportError:
        return False


def send(client, topic, body, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/v1/topics/{topic}/messages", content=body, headers=named)


def test_one_key_at_two_apis_is_one_message(one, other):
    first = send(one.client, "keys", "paid", Idempotency_Key="order-1", Prefer="wait=20")
    assert first.status_code == 201
    again = send(other, "keys", "paid", Idempotency_Key="order-1", Prefer="wait=20")
    assert again.status_code in (200, 201, 202)
    assert again.json()["id"] == first.json()["id"]
    differs = send(other, "keys", "paid twice", Idempotency_Key="order-1")
    assert differs.status_code == 422
    assert [row["body"] for row in one.rows("keys")] == ["paid"]


def test_one_key_with_two_bodies_at_two_apis_before_either_is_stored_is_one_row_and_a_letter(
    one, other
):
    """Neither can know of the other: a worker that is away keeps the first from being a row."""
    (worker,) = one.workers
    worker.stop()
    try:
        first = send(one.client, "raced", "a", Idempotency_Key="order-2")
        second = send(other, "raced", "b", Idempotency_Key="order-2")
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json()["id"] == second.json()["id"]
    finally:
        worker.start()
    assert [row["body"] for row in one.wait_rows(1, "raced")] == ["a"]
    (letter,) = wait_until(
        lambda: one.query("SELECT * FROM dead_letters WHERE topic = 'raced'"), "a dead letter"
    )
    assert (letter["reason"], letter["body"]) == ("conflict", b"b")
    assert one.count("raced") == 1


def test_an_api_is_ready_to_take_messages_while_no_worker_stores_them(one, other):
    """A load balancer would otherwise be left without any API, though each takes messages."""
    (worker,) = one.workers
    worker.stop()
    try:
        for client in (one.client, other):
            wait_until(lambda c=client: c.get("/readyz").status_code == 503, "no worker is seen")
            intake = client.get("/readyz/intake")
            assert intake.status_code == 200, intake.text
            assert "worker_attached" not in intake.json()["checks"]
            assert send(client, "waiting", "kept").status_code == 202
    finally:
        worker.start()
    assert len(one.wait_rows(2, "waiting")) == 2


def test_a_token_made_at_one_api_counts_at_the_other_until_it_is_revoked_at_either(one, other):
    wish = {"name": "shared", "rights": ["publish"]}
    token = one.client.post("/v1/tokens", json=wish).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}

    def status():
        return other.post("/v1/topics/shared/messages", content="x", headers=headers).status_code

    wait_until(lambda: status() == 202, "the other API knows the token")
    assert one.client.delete("/v1/tokens/shared").status_code in (200, 204)
    wait_until(lambda: status() == 401, "the other API refuses the token")


def test_an_inbox_address_made_at_one_api_takes_messages_at_the_other(one, other):
    made = one.client.post("/v1/inboxes", json={"name": "hooks", "topic": "hooks"})
    assert made.status_code == 201, made.text
    path = httpx.URL(made.json()["address"]).path
    wait_until(lambda: other.post(path, content="hello").status_code < 300, "the address is known")
    assert one.wait_rows(1, "hooks")[0]["body"] == "hello"


def test_a_rate_is_counted_by_each_api_for_itself(one, other):
    wish = {"name": "slow", "rights": ["publish"], "rate": "2/d"}
    token = one.client.post("/v1/tokens", json=wish).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    wait_until(
        lambda: other.get("/v1/tokens").text.count('"slow"') == 1, "the token is in the database"
    )

    def statuses(client):
        first = wait_until(
            lambda: (status := sent(client)) != 401 and status, "this API knows the token"
        )
        return [first, sent(client), sent(client)]

    def sent(client):
        return client.post("/v1/topics/rated/messages", content="x", headers=headers).status_code

    assert statuses(one.client) == [202, 202, 429]
    assert statuses(other) == [202, 202, 429]
