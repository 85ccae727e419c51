"""The janitor of a running appliance tells a webhook of an alert, the log and /metrics too."""

import http.server
import json
import threading
import time

import pytest
from harness import Process, wait_until

pytestmark = pytest.mark.slow

METRIC = 'appliance_alert_active{alert="dead-letters",subject=""}'


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_dead_letter_raises_an_alert_that_is_told_once_everywhere(stack, hook):
    one = stack(workers=1, alert_url=f"http://127.0.0.1:{hook.server_port}/secret-path")
    janitor = Process("janitor", one.env, one.folder)
    janitor.start()

    def told_after_another():
        """Letters that died before the first look are no news, so another one dies each time."""
        ndjson = {"Content-Type": "application/x-ndjson"}
        bad = one.publish("orders", b"{}\nno\n", {"on-bad": "dead-letter"}, **ndjson)
        assert bad.status_code == 202
        time.sleep(1)
        return hook.got

    try:
        wait_until(told_after_another, "the webhook is told", 60, lambda: janitor.log)
        (told,) = hook.got
        assert (told["type"], told["alert"]) == ("alert.raised", "dead-letters")
        wait_until(
            lambda: f"{METRIC} 1\n" in one.get("/metrics").text, "it is a metric", 10, one.logs
        )
        assert one.get("/v1/status").json()["alerts"] == [
            {"alert": "dead-letters", "subject": "", "text": told["detail"], "since": told["since"]}
        ]
        assert janitor.log.count('"alert raised"') == 1
        assert "secret-path" not in janitor.log
        assert janitor.stop() == 0
        assert f"{METRIC} 1\n" not in one.get("/metrics").text  # it can't know any more
        assert len(hook.got) == 1
    finally:
        janitor.kill()
