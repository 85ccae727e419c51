"""Behind a reverse proxy under a path: a real nginx, set up as docs/install.md says."""

import re
import subprocess
from pathlib import Path

import httpx
import pytest
from harness import free_port, wait_until
from twilio.request_validator import RequestValidator

INSTALL = Path(__file__).parents[2] / "docs" / "install.md"
#: A proxy that leaves the path as it is, and says nothing about its client.
SILENT = """
location /inbox/ {
    proxy_pass http://127.0.0.1:8080;
}
location /inbox/in/ {
    proxy_pass http://127.0.0.1:8080;
    access_log off;
    error_log /dev/null crit;
}
"""
NGINX = """
daemon off;
master_process off;
pid FOLDER/pid;
error_log stderr;
events {}
http {
    access_log FOLDER/access;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    server {
        listen 127.0.0.1:PORT;
        LOCATION
    }
}
"""


def documented():
    (block,) = re.findall(r"```nginx\n(.*?)```", INSTALL.read_text(), re.DOTALL)
    return block


class Nginx:
    """Nginx in the foreground, as one process that is ours to end."""

    def __init__(self, folder, location, target):
        self.port = free_port()
        self.access = folder / "access"
        text = NGINX.replace("LOCATION", location).replace("127.0.0.1:8080", target)
        text = text.replace("FOLDER", str(folder)).replace("PORT", str(self.port))
        (folder / "nginx.conf").write_text(text)
        self.log = (folder / "log").open("w+")
        command = ["/usr/sbin/nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        self.process = subprocess.Popen(command, stderr=self.log)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        wait_until(self.answers, "nginx answers", more=self.said)

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def answers(self):
        try:
            return self.client.get("/inbox/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def close(self):
        self.client.close()
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@pytest.fixture(
    scope="module",
    params=[
        (documented, {"trusted_proxies": "127.0.0.1"}),
        (lambda: SILENT, {"public_url": "https://example.com/inbox"}),
    ],
    ids=["as documented", "a proxy that says nothing"],
)
def running(request, module_stack, tmp_path_factory):
    location, settings = request.param
    stack = module_stack(**settings)
    nginx = Nginx(tmp_path_factory.mktemp("nginx"), location(), stack.url.removeprefix("http://"))
    nginx.client.headers["Authorization"] = f"Bearer {stack.token}"
    yield nginx
    nginx.close()


def test_the_address_of_a_new_message_leads_to_it(running):
    sent = running.client.post(
        "/inbox/v1/topics/a/messages", content=b"x", headers={"Prefer": "wait=20"}
    )
    assert sent.status_code == 201
    assert sent.headers["location"].startswith("/inbox/v1/messages/")
    assert running.client.get(sent.headers["location"]).json()["body"] == "x"


def test_the_addresses_of_pages_lead_on(running):
    for topic in ("pages", "others"):
        running.client.post(
            f"/inbox/v1/topics/{topic}/messages?split=lines",
            content="a\nb\nc",
            headers={"Prefer": "wait=20"},
        ).raise_for_status()
    bodies, address = [], "/inbox/v1/topics/pages/messages?limit=1&after=0"
    while address:
        page = running.client.get(address).json()
        bodies += [message["body"] for message in page["messages"]]
        address = page["next_url"]
        assert address is None or address.startswith("/inbox/v1/topics/pages/messages?")
    assert bodies == ["a", "b", "c"]
    topics = running.client.get("/inbox/v1/topics?limit=1").json()
    assert topics["next_url"].startswith("/inbox/v1/topics?")


def test_programs_and_people_are_told_the_address_with_its_path(running):
    assert running.client.get("/inbox/openapi.json").json()["servers"] == [{"url": "/inbox"}]
    for link in running.client.get("/inbox/").json()["links"].values():
        assert running.client.get(link, follow_redirects=True).status_code == 200
    moved = running.client.get("/inbox/", headers={"Accept": "text/html"})
    assert moved.headers["location"].startswith("/inbox/console/")
    page = running.client.get(moved.headers["location"], follow_redirects=True)
    assert (page.status_code, page.url.path) == (200, "/inbox/console/login")
    for address in re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text):
        assert address.startswith("/inbox/"), address
    assert running.client.get(re.search(r'href="(/[^"]*css[^"]*)"', page.text)[1]).is_success


def test_an_inboxs_address_works_behind_the_proxy_and_signs_right(running):
    wanted = {"topic": "sms", "kind": "twilio", "secrets": ["12345"], "name": f"sms-{running.port}"}
    address = running.client.post("/inbox/v1/inboxes", json=wanted).json()["address"]
    assert "/inbox/in/" in address
    code = RequestValidator("12345").compute_signature(address + "?a=1", {"Body": "x"})
    secret = address.rpartition("/")[2]
    with httpx.Client(base_url=running.client.base_url, trust_env=False) as sender:
        headers = {"X-Twilio-Signature": code}
        sent = sender.post(f"/inbox/in/{secret}?a=1", data={"Body": "x"}, headers=headers)
        assert sent.status_code == 200, sent.text
        assert sender.get(f"/inbox/in/{secret}").status_code == 200


def test_the_proxys_log_has_no_address_of_an_inbox(running):
    address = running.client.post("/inbox/v1/inboxes", json={"topic": "quiet"}).json()["address"]
    secret = address.rpartition("/")[2]
    for path in (f"/inbox/in/{secret}", f"/inbox/in/{secret}?a=b", f"/inbox/in/{secret}/x"):
        running.client.post(path, content=b"x")
    running.client.get("/inbox/v1/topics")
    wait_until(lambda: "/inbox/v1/topics" in running.access.read_text(), "a line in the log")
    assert secret not in running.access.read_text()
    assert secret not in running.said()
