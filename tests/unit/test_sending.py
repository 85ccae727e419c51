"""Sending lines in batches: errors keep their kind and name the lines."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from appliance import config as configuration
from appliance.cli.batching import BATCH_LINES
from appliance.cli.sending import Sender
from appliance.client import Client
from appliance.errors import ClientError, InputError, TokenRefusedError


@pytest.fixture
def sender(tmp_path):
    """A sender to an API that answers each request with the next of some statuses."""
    statuses = []

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            lines = self.rfile.read(int(self.headers["Content-Length"])).count(b"\n")
            status = statuses.pop(0)
            answer = {"count": lines, "ids": ["first", "last"], "detail": "the detail"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Keep the output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    config = configuration.load({"APPLIANCE_URL": url, "APPLIANCE_DATA": str(tmp_path)})
    with Client.of(config) as client:

        def make(*answers):
            statuses.extend(answers)
            return Sender(client, "orders", patience=0.0)

        yield make
    server.shutdown()
    thread.join()
    server.server_close()


def send(sender, count):
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: (os.write(writer, b"x\n" * count), os.close(writer)))
    thread.start()
    try:
        for _ in sender.send_lines(reader):
            pass
    finally:
        thread.join()
        os.close(reader)


SECOND = f"^lines {BATCH_LINES + 1} to {BATCH_LINES + 10}: "


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, InputError, f"{SECOND}the detail; 5,000 messages before are on the appliance's disk"),
        (503, ClientError, f"{SECOND}http://.*: the detail; 5,000 messages before are on the"),
        (401, TokenRefusedError, "^the API at http://.* needs a token"),
    ],
)
def test_an_error_of_a_later_batch_keeps_its_kind_and_names_the_lines(sender, status, error, words):
    with pytest.raises(error, match=words) as caught:
        send(sender(202, status), BATCH_LINES + 10)
    assert type(caught.value) is error


def test_the_lines_that_were_sent_are_counted(sender):
    working = sender(202, 202)
    send(working, BATCH_LINES + 10)
    assert (working.sent.messages, working.sent.requests) == (BATCH_LINES + 10, 2)
    assert working.sent.last_id == "last"
