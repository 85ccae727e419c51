"""What `/` says to programs and to browsers, and the icon."""

import re

import pytest
from flask_app import app_of

from appliance import config as configuration

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"}


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_HTTP": "0.0.0.0:1234"})


@pytest.fixture
def client(config):
    return app_of(config).test_client()


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "image/png", "", "\xff"])
def test_root_is_json_for_a_program(client, accept):
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Vary"] == "Accept"
    assert answer.json["name"] == "Queue Appliance"
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer.json["version"])
    for link in ("openapi", "health", "readiness"):
        assert client.get(answer.json["links"][link]).status_code in (200, 503)


def test_root_leads_a_browser_to_the_console(client):
    answer = client.get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/")
    assert answer.headers["Vary"] == "Accept"


def test_addresses_have_the_prefix_that_the_connection_says(client):
    at = {"SCRIPT_NAME": "/inbox"}
    assert client.get("/", headers=BROWSER, environ_overrides=at).headers["Location"] == (
        "/inbox/console/"
    )
    links = client.get("/", environ_overrides=at).json["links"]
    assert links["openapi"] == "/inbox/openapi.json"
    document = client.get("/openapi.json", environ_overrides=at).json
    assert document["servers"] == [{"url": "/inbox"}]
    assert client.get("/openapi.json").json["servers"] == [{"url": "/"}]


def test_root_has_a_head_and_no_other_method(client):
    assert client.head("/", headers=BROWSER).data == b""
    answer = client.post("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_icon_is_an_image(client):
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer.content_type) == (200, "image/svg+xml")
    assert answer.data.startswith(b"<svg ")
    assert b"script" not in answer.data
