import re

import pytest
from flask_app import app_of

from appliance import config as configuration
from appliance.api.openapi import describe
from appliance.api.views import dead_letters, topics
from appliance.broker.base import BrokerState
from appliance.store.sqlite.reader import Topic, Totals

#: Served by the front door, before Flask.
PUBLISHING = {("/v1/topics/{topic}/messages", "post"), ("/v1/topics/{topic}/messages", "put")}


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


@pytest.fixture
def description(config):
    return describe(config, "1.2.3")


@pytest.fixture
def app(config):
    return app_of(config)


def operations(description):
    return {
        (path, method): operation
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_every_address_is_described_and_every_description_has_an_address(app, description):
    served = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:message_|letter_)?(\w+)>", r"{\1}", rule.rule)
        served |= {(path, method.lower()) for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert set(operations(description)) == served | PUBLISHING


def test_every_parameter_of_a_view_is_described(description):
    def described(path):
        parameters = description["paths"][path]["get"].get("parameters", [])
        return {p["name"] for p in parameters if p["in"] == "query"}

    assert described("/v1/topics") == set(topics.TOPIC_PARAMETERS)
    assert described("/v1/topics/{topic}/messages") == set(topics.MESSAGE_PARAMETERS)
    assert described("/v1/messages/{id}") == set()
    assert described("/v1/dead-letters") == set(dead_letters.PARAMETERS)


def test_every_parameter_in_a_path_is_described(description):
    for path, item in description["paths"].items():
        assert re.findall(r"\{(\w+)\}", path) == [p["name"] for p in item.get("parameters", [])]


def test_every_reference_leads_somewhere(description):
    def references(part):
        if isinstance(part, dict):
            yield from ([part["$ref"]] if "$ref" in part else [])
            part = list(part.values())
        if isinstance(part, list):
            for item in part:
                yield from references(item)

    for reference in references(description):
        place = description
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_operations_have_names_of_their_own(description):
    names = [operation["operationId"] for operation in operations(description).values()]
    assert len(names) == len(set(names))


def test_all_but_health_needs_the_token(description):
    for (path, method), operation in operations(description).items():
        is_open = path in ("/healthz", "/readyz")
        assert (operation.get("security") == []) == is_open, (path, method)
        assert ("401" in operation["responses"]) == (not is_open), (path, method)


def test_the_limits_in_force_are_told(tmp_path):
    config = configuration.load(
        {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MAX_BATCH_MESSAGES": "1234"}
    )
    publish = describe(config, "1")["paths"]["/v1/topics/{topic}/messages"]["post"]
    assert "1234 messages" in publish["description"]


@pytest.mark.parametrize(
    ("schema", "kind"), [("store", Totals), ("broker", BrokerState), ("topics", Topic)]
)
def test_shapes_have_the_fields_of_what_they_show(description, schema, kind):
    schemas = description["components"]["schemas"]
    shapes = {
        "store": schemas["Status"]["properties"]["store"],
        "broker": schemas["Status"]["properties"]["broker"],
        "topics": schemas["Topics"]["properties"]["topics"]["items"],
    }
    fields = getattr(kind, "_fields", None) or list(kind.__dataclass_fields__)
    assert list(shapes[schema]["properties"]) == list(fields)


def test_it_is_served_as_json(app, description):
    answer = app.test_client().get("/openapi.json")
    assert answer.content_type == "application/json"
    assert answer.json["paths"] == description["paths"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer.json["info"]["version"])
