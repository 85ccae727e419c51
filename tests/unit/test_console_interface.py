"""The console's page of the API says what the description says."""

import html
import re

import pytest
from console_client import ConsoleClient

from appliance import config as configuration
from appliance.api.openapi import describe


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    yield client
    client.close()


def test_every_call_of_the_description_is_on_the_page_once_with_its_line(client):
    page = html.unescape(client.get("/console/api", base_url="http://box.lan:8080").text)
    document = describe(client.services.config, "1")
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert sorted(re.findall(r'class="call" id="(\w+)"', page)) == sorted(names)
    assert len(
        re.findall(
            r"<pre tabindex=[^>]*>curl .*'http://box\.lan:8080/.*'</pre>$", page, re.MULTILINE
        )
    ) == len(names)
    words = re.sub(r"<[^>]+>", "", page)
    for item in document["paths"].values():
        for method, operation in item.items():
            if method != "parameters":
                assert operation["summary"].replace("`", "") in words


def test_the_page_of_the_api_stays_small(client):
    assert len(client.get("/console/api").data) < 72 * 1024
