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
    pages = [html.unescape(text) for text in every_page(client)]
    document = describe(client.services.config, "1")
    names = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    whole = "\n".join(pages)
    assert sorted(re.findall(r'class="call" id="(\w+)"', whole)) == sorted(names)
    assert len(
        re.findall(
            r"<pre tabindex=[^>]*>curl .*'http://box\.lan:8080/.*'</pre>$", whole, re.MULTILINE
        )
    ) == len(names)
    for page in pages:
        words = re.sub(r"<[^>]+>", "", page)
        for item in document["paths"].values():
            for method, operation in item.items():
                if method != "parameters":
                    assert operation["summary"].replace("`", "") in words


def every_page(client):
    """The page with each group of calls shown whole; the first as it is without a wish."""
    first = client.get("/console/api", base_url="http://box.lan:8080").text
    links = dict.fromkeys(re.findall(r'href="(/console/api\?group=[^"#]+)#', first))
    assert len(links) > 5
    return [first, *(client.get(link, base_url="http://box.lan:8080").text for link in links)]


def test_a_call_of_another_group_is_a_link_to_where_it_is_shown_whole(client):
    for page in every_page(client):
        for link, name in re.findall(r'href="(/console/api\?group=[^"#]+)#(\w+)"', page):
            assert f'class="call" id="{name}"' in client.get(link).text


def test_a_group_that_is_not_there_is_the_first(client):
    assert client.get("/console/api?group=<x>").data == client.get("/console/api").data


def test_the_pages_of_the_api_stay_small(client):
    for page in every_page(client):
        assert len(page.encode()) < 60 * 1024
