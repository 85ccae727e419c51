"""A test of an endpoint: a real receiver gets one signed request, and its answer is told."""

import http.server
import json
import threading

import pytest
from standardwebhooks import Webhook

from appliance import config as configuration
from appliance.config.parsers import networks
from appliance.errors import BusyError
from appliance.operations import endpoint_trial
from appliance.operations.endpoint_desk import EndpointDesk
from appliance.operations.endpoint_trial import EndpointTrial
from appliance.store import open_store
from appliance.store.access_rows import Actor

BY = Actor("administrator", "127.0.0.1")


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Location", "http://169.254.169.254/")
        self.end_headers()
        self.wfile.write(b"no \0 thanks" if self.server.status != 204 else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    server.got, server.status = [], 204
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    store.migrate()
    yield store
    store.reader.close()


def made(store, receiver, deeds, listed="127.0.0.1"):
    desk = EndpointDesk(store.endpoints, lambda: 0, networks(listed), deeds.append)
    url = f"http://127.0.0.1:{receiver.server_port}/hooks"
    _, secret = desk.create("erp", {"url": url}, BY)
    return desk, secret


def test_a_test_message_is_one_signed_request_that_the_audit_trail_names(store, receiver):
    deeds = []
    desk, secret = made(store, receiver, deeds)
    tried = desk.test("erp", BY)
    ((headers, body),) = receiver.got
    assert (tried.status, tried.error, tried.id) == (204, "", headers["webhook-id"])
    assert Webhook(secret).verify(body, headers)["endpoint"] == "erp"
    assert (headers["appliance-topic"], json.loads(body)["type"]) == ("appliance.test",) * 2
    assert [(deed.action, deed.target) for deed in deeds] == [("endpoint-test", "erp")]
    assert store.endpoints.find("erp").delivered == 0


@pytest.mark.parametrize("status", [302, 410, 500])
def test_a_test_message_that_is_not_taken_says_why_and_follows_no_redirect(store, receiver, status):
    desk, _ = made(store, receiver, [])
    receiver.status = status
    tried = desk.test("erp", BY)
    assert (tried.status, tried.error) == (status, f"answered {status}")
    assert tried.answer == "no \ufffd thanks"
    assert (len(receiver.got), store.endpoints.find("erp").state) == (1, "active")


def test_a_test_message_goes_to_no_private_address_that_is_not_listed(store, receiver):
    made(store, receiver, [])
    desk = EndpointDesk(store.endpoints, lambda: 0, ())
    tried = desk.test("erp", BY)
    assert tried.status is None
    assert "APPLIANCE_DELIVER_ALLOW" in tried.error
    assert receiver.got == []


def test_a_test_of_an_endpoint_that_is_not_there_is_none(store, receiver):
    desk, _ = made(store, receiver, [])
    assert desk.test("other", BY) is None


def test_tests_at_once_are_few_so_that_other_requests_have_threads(store, receiver, monkeypatch):
    monkeypatch.setattr(endpoint_trial, "_AT_ONCE", 0)
    made(store, receiver, [])
    trial = EndpointTrial(networks("127.0.0.1"))
    with pytest.raises(BusyError, match="try again"):
        trial.send(store.endpoints.outfit("erp"))
