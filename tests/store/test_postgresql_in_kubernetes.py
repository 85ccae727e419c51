"""The database as deploy/kubernetes/scale uses it: its certificate, and KEDA's question."""

import os
import shutil
from pathlib import Path

import kustomize
import psycopg
import pytest
from certificates import make_certificate
from harness import free_port
from postgres import PostgresServer

from appliance.errors import StoreError
from appliance.store.postgresql.connections import connect

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"


def test_the_autoscalers_query_counts_the_messages_that_are_due_to_a_handler(postgres_server):
    url = postgres_server.new_database(migrated=True)
    (scaled,) = (
        each
        for each in kustomize.build(KUBERNETES / "scale", KUBERNETES / "handlers-by-queue")
        if each["kind"] == "ScaledObject"
    )
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"].encode()
    with psycopg.connect(url, autocommit=True) as link:
        assert link.execute(query).fetchone() == (0,)
        for number, due in enumerate(("0", "1", "extract(epoch FROM now() + '1 h') * 1000")):
            link.execute(
                "INSERT INTO handler_messages (id, topic, body, received_at, function, due_at) "
                f"VALUES ('{number}', 'orders', 'x', '2026-11-28', 'shop:check', {due})".encode()
            )
        assert link.execute(query).fetchone() == (2,)
    postgres_server.drop_database(url)


@pytest.fixture
def tls_server(tmp_path):
    """A server with the certificate of the operator's Service; yields its URL and the file."""
    pair = make_certificate(tmp_path / "right", "inbox-database-rw.inbox", is_authority=True)
    server = PostgresServer()
    try:
        for file, name in zip(pair, ("server.crt", "server.key"), strict=True):
            place = server.folder / name
            shutil.copy(file, place)
            place.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(place, "postgres")
        server.stop()
        port = free_port()
        server._options = server._options.replace(
            "listen_addresses=",
            f"listen_addresses=127.0.0.1 -p {port} -c ssl=on "
            f"-c ssl_cert_file={server.folder}/server.crt "
            f"-c ssl_key_file={server.folder}/server.key",
        )
        server.start()
        yield f"postgresql://postgres@inbox-database-rw.inbox:{port}/postgres", pair[0]
    finally:
        server.remove()


def test_the_server_must_have_a_certificate_of_its_authority_as_the_environment_says(
    tls_server, tmp_path, monkeypatch
):
    url, authority = tls_server
    connections = (KUBERNETES / "scale" / "connections.env").read_text()
    said = dict(line.split("=", 1) for line in connections.splitlines() if line[0] != "#")
    monkeypatch.setenv("PGSSLMODE", said["PGSSLMODE"])
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGSSLROOTCERT", str(authority))
    link = connect(url, readonly=True)
    statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert link.execute(statement).fetchone() == (True,)
    link.close()
    with pytest.raises(StoreError, match="does not match host name"):
        connect(url.replace("inbox-database-rw.inbox", "elsewhere"), readonly=True)
    other, _ = make_certificate(tmp_path / "wrong", "inbox-database-rw.inbox", is_authority=True)
    monkeypatch.setenv("PGSSLROOTCERT", str(other))
    with pytest.raises(StoreError, match="certificate verify failed"):
        connect(url, readonly=True)
