"""The benchmark of the console's pages: no route is forgotten, and an example fits each."""

import threading

import pytest
from flask_app import AWAY

from appliance import config as configuration
from appliance.api.app import create_app
from appliance.auth.authorizer import Authorizer
from appliance.cli.composition import api_services
from appliance.store import open_store
from bench import addresses, pages
from bench.harness import BenchError

PLACES = {name: f"<{name}>" for name in addresses.places(pages.QUICK)}


@pytest.fixture
def app(tmp_path):
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path)})
    return create_app(
        api_services(
            config,
            open_store(config),
            lambda: AWAY,
            lambda _: None,
            mark=lambda _: None,
            stopping=threading.Event(),
            authorizer=Authorizer("token"),
        )
    )


def test_every_route_that_reads_is_measured_or_left_out_with_a_reason(app):
    rules = list(app.url_map.iter_rules())
    reads = {rule.endpoint for rule in rules if "GET" in rule.methods}
    asked = {
        app.url_map.bind("").match(each.text.partition("?")[0])[0]
        for each in addresses.addresses(rules, dict.fromkeys(PLACES, "1"))
    }
    assert asked | addresses.LEFT_OUT.keys() == reads
    assert not set(addresses.VARIANTS) - asked


def test_an_address_has_its_examples_and_its_queries(app):
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint == "topics.list_messages"]
    found = [each.text for each in addresses.addresses(rules, PLACES)]
    assert "/v1/topics/orders/messages" in found
    assert "/v1/topics/orders/messages?before=<middle>" in found


def test_a_route_with_an_unknown_part_is_refused_by_name(app):
    app.add_url_rule("/v1/new/<thing>", "new.show_thing", lambda thing: thing)
    with pytest.raises(BenchError, match=r"/v1/new/<thing>: .* no example for thing; give it one"):
        addresses.addresses(app.url_map.iter_rules(), PLACES)


def test_the_table_has_a_row_for_each_address_and_says_which_is_slowest():
    times = [
        pages.PageTime("/fast", 1.0, 2.0, 0.5, 1.0, 10.0),
        pages.PageTime("/slow", 9.0, 21.0, 3.0, 4.0, 20.4),
    ]
    found = pages.Pages(pages.QUICK, times, 0.0)
    assert pages.rows(found)[1] == ["/slow", "9.0", "21.0", "3.0", "4.0", "20"]
    assert (found.slowest.address, found.dearest.address) == ("/slow", "/slow")
