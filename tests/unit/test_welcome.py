"""The page at `/`, the same for programs, and the icon."""

import base64
import hashlib
import re

import pytest
from flask_app import app_of

from appliance import config as configuration
from appliance.readiness import Readiness

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"}


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_HTTP": "0.0.0.0:1234"})


@pytest.fixture
def client(config):
    return app_of(config).test_client()


def page(client, **headers):
    answer = client.get("/", headers={**BROWSER, **headers})
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    return answer


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "image/png", "", "\xff"])
def test_root_is_json_for_a_program(client, accept):
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Vary"] == "Accept"
    assert answer.json["name"] == "Queue Appliance"
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer.json["version"])
    for link in answer.json["links"].values():
        assert client.get(link).status_code in (200, 503)


def test_root_is_a_page_for_a_browser(client):
    answer = page(client)
    assert "This is a Queue Appliance" in answer.text
    assert client.get("/").json["version"] in answer.text
    for link in re.findall(r'(?:href|src)="([^"]+)"', answer.text):
        assert client.get(f"/{link}").status_code in (200, 503), link


def test_page_allows_its_own_style_and_no_script(client):
    answer = page(client)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<script| style=| on\w+=|javascript:", answer.text)


def test_page_says_what_readyz_says(config):
    ready = app_of(config, readiness=lambda: Readiness({"a": True})).test_client()
    assert '<h2 class="ready">Ready</h2>' in page(ready).text
    reason = "the queue is full & <b>it stays so</b>"
    full = app_of(config, readiness=lambda: Readiness({"a": False}, [reason])).test_client()
    text = page(full).text
    assert '<h2 class="not-ready">Not ready</h2>' in text
    assert "<li>the queue is full &amp; &lt;b&gt;it stays so&lt;/b&gt;</li>" in text


def test_page_shows_nothing_of_the_machine(client, config):
    assert str(config.data) not in page(client).text


@pytest.mark.parametrize(
    "host", ["inbox.example", "inbox.example:8080", "127.0.0.1:8080", "[::1]:8080", "INBOX"]
)
def test_page_names_the_address_that_was_asked(client, host):
    assert f"http://{host}/v1/topics/orders/messages" in page(client, Host=host).text


def test_page_names_https_where_the_connection_says_so(client):
    answer = client.get("/", headers=BROWSER, base_url="https://inbox.example")
    assert "https://inbox.example/v1/topics" in answer.text


def test_page_does_not_heed_what_anyone_can_forward(client):
    text = page(client, Host="inbox.example", **{"X-Forwarded-Proto": "https"}).text
    assert "http://inbox.example/v1/topics" in text


def test_addresses_have_the_prefix_that_the_connection_says(client):
    at = {"SCRIPT_NAME": "/inbox"}
    answer = client.get("/", headers={**BROWSER, "Host": "a.example"}, environ_overrides=at)
    assert "http://a.example/inbox/v1/topics/orders/messages" in answer.text
    links = client.get("/", environ_overrides=at).json["links"]
    assert links["openapi"] == "/inbox/openapi.json"
    document = client.get("/openapi.json", environ_overrides=at).json
    assert document["servers"] == [{"url": "/inbox"}]
    assert client.get("/openapi.json").json["servers"] == [{"url": "/"}]


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "<script>alert(1)</script>",
            "a\"onload='x'",
            "a&b",
            "a';rm -rf ~;'",
            "$(id)",
            "`id`",
        ),
        *("a b", "a/b", "user@a", "\xff", "K\u212a.example".encode().decode("latin-1"), "a." * 200),
        *("a:123456", "a:b", "[::1", "[x]", "[::1]x", "a\\", "{{ config }}", "a,b", "%0a", "a#b"),
    ],
)
def test_page_never_shows_a_hostile_host(client, host):
    text = page(client, Host=host).text
    assert "http://localhost:1234/v1/topics/orders/messages" in text
    if len(host) > 3:
        assert host not in text


def test_page_has_a_head_and_no_other_method(client):
    assert client.head("/", headers=BROWSER).data == b""
    answer = client.post("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_icon_is_an_image(client):
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer.content_type) == (200, "image/svg+xml")
    assert answer.data.startswith(b"<svg ")
    assert b"script" not in answer.data
