"""The page Connect has the recipes of docs/send.md, with this machine's address."""

import html

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from tools import connect_recipes


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    yield client
    client.close()


def test_the_recipes_of_the_page_are_those_of_the_documentation():
    text = connect_recipes.TARGET.read_text()
    assert text == connect_recipes.page(), "run: python tools/connect_recipes.py"


def test_recipes_have_their_code_whole_and_in_order():
    found = {each["title"]: each["parts"] for each in connect_recipes.recipes()}
    assert list(found)[:2] == ["curl", "Repeat safely"]
    assert {"GitHub", "Stripe", "ESP32 and MicroPython", "Browser fetch"} <= set(found)
    source = connect_recipes.SOURCE.read_text()
    for parts in found.values():
        assert any("code" in part for part in parts)
        for part in parts:
            assert part.get("code", "") in source


def test_the_page_has_this_machines_address_and_none_of_an_example(client):
    page = html.unescape(client.get("/console/connect", base_url="http://box.lan:8080").text)
    assert "http://box.lan:8080/v1/topics/orders/messages" in page
    assert "https://inbox.example.com" not in page
    assert "127.0.0.1:8080" not in page


def test_a_hostile_host_header_is_on_no_page(client):
    headers = {"Host": "a\"'><script>alert(1)</script>"}
    page = client.get("/console/connect", headers=headers).text
    assert "<script>alert" not in page
