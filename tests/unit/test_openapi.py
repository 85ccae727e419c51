import configparser
import json
import re
from pathlib import Path

import pytest
import ready_made
from flask_app import app_of

from appliance import config as configuration
from appliance.api import openapi
from appliance.api.http import problems
from appliance.api.openapi import describe
from appliance.api.views import dead_letters, deliveries, endpoints, searches, topics
from appliance.broker.publish.sharded import ShardedState
from appliance.model import topics as model_topics
from appliance.model.endpoint_settings import EndpointSettings
from appliance.store import open_store
from appliance.store.filters import KINDS
from appliance.store.rows import PAGE_BYTES, Topic, Totals

ROOT = Path(__file__).parents[2]
#: Served by the connection, before Flask.
PUBLISHING = {
    ("/v1/topics/{topic}/messages", "post"),
    ("/v1/topics/{topic}/messages", "put"),
    ("/in/{secret}", "post"),
    ("/in/{secret}", "put"),
    ("/in/{secret}", "get"),
    ("/v1/stream", "get"),
    ("/v1/topics/{topic}/stream", "get"),
    ("/v1/subscriptions/{name}/receive", "post"),
    ("/v1/subscriptions/{name}/ack", "post"),
    ("/v1/subscriptions/{name}/nack", "post"),
    ("/v1/subscriptions/{name}/extend", "post"),
}
#: Browsers ask for it by themselves; it is no part of the interface.
ICON = {("/favicon.ico", "get")}
#: The address that needs no token, but a signature perhaps.
INBOX = "/in/{secret}"
#: Addresses that need no token.
OPEN = {"/", "/healthz", "/readyz", "/readyz/intake", "/openapi.json"}


@pytest.fixture
def config(tmp_path):
    return configuration.load({"APPLIANCE_DATA": str(tmp_path)})


@pytest.fixture
def description(config):
    return describe(config, "1.2.3")


@pytest.fixture
def opened(config):
    store = open_store(config)
    ready_made.migrate(store.path)
    yield store
    store.reader.close()


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
        if rule.rule.startswith("/console"):
            continue  # pages for people
        names = r"<(?:int:)?(?:message_|letter_|deletion_|replay_)?(\w+)>"
        path = re.sub(names, r"{\1}", rule.rule)
        served |= {(path, method.lower()) for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert set(operations(description)) | ICON == served | PUBLISHING


def test_every_parameter_of_a_view_is_described(description):
    def described(path):
        parameters = description["paths"][path]["get"].get("parameters", [])
        return {p["name"] for p in parameters if p["in"] == "query"}

    assert described("/v1/topics") == set(topics.TOPIC_PARAMETERS)
    of_messages = {*searches.PARAMETERS, *searches.REPEATED}
    assert described("/v1/topics/{topic}/messages") == of_messages
    assert described("/v1/messages") == of_messages | {"topic"}
    assert described("/v1/messages/{id}") == set()
    assert described("/v1/dead-letters") == set(dead_letters.PARAMETERS)
    assert described("/v1/endpoints/{name}/deliveries") == set(deliveries.ATTEMPT_PARAMETERS)
    assert described("/v1/endpoints/{name}/undelivered") == set(deliveries.UNDELIVERED_PARAMETERS)


def test_the_members_of_an_endpoint_are_those_that_the_view_takes(description):
    schemas = description["components"]["schemas"]
    assert set(schemas["NewEndpoint"]["properties"]) == set(endpoints.MEMBERS)
    assert set(schemas["EndpointChange"]["properties"]) == set(endpoints.CHANGES)
    for name in ("EndpointChange", "Endpoint"):
        settings = schemas[name]["properties"]["settings"]["properties"]
        assert list(settings) == list(EndpointSettings().members()), name


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


def test_operations_need_the_token_except_health_and_the_description(description):
    for (path, method), operation in operations(description).items():
        is_open = path in OPEN
        assert (operation.get("security") == []) == (is_open or path == INBOX), (path, method)
        assert ("401" in operation["responses"]) == (not is_open), (path, method)


def test_limits_in_force_are_described(tmp_path):
    config = configuration.load(
        {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MAX_BATCH_MESSAGES": "1234"}
    )
    publish = describe(config, "1")["paths"]["/v1/topics/{topic}/messages"]["post"]
    assert "1234 messages" in publish["description"]


@pytest.mark.parametrize(
    ("schema", "kind"), [("store", Totals), ("broker", ShardedState), ("topics", Topic)]
)
def test_shapes_have_the_fields_of_what_they_show(description, opened, schema, kind):
    schemas = description["components"]["schemas"]
    shapes = {
        "store": schemas["Status"]["properties"]["store"],
        "broker": schemas["Status"]["properties"]["broker"],
        "topics": schemas["Topics"]["properties"]["topics"]["items"],
    }
    fields = getattr(kind, "_fields", None) or list(kind.__dataclass_fields__)
    details = list(opened.reader.details()) if kind is Totals else []
    described = shapes[schema]["properties"]
    # The other engine's own are held to by test_reader.
    others = [
        name
        for name in described
        if described[name].get("description", "").startswith("Of PostgreSQL")
    ]
    assert list(described) == [*fields, *details, *others]


def test_description_is_served_as_json(app, description):
    answer = app.test_client().get("/openapi.json")
    assert answer.content_type == "application/json"
    assert answer.json["paths"] == description["paths"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer.json["info"]["version"])


def test_names_in_the_file_are_those_that_are_filled_in(config):
    names = re.findall(r"\$\{(\w+)\}", openapi.source())
    assert set(names) == set(openapi.values(config, "1"))


def test_numbers_that_are_not_filled_in_are_those_of_the_code(description):
    pattern = description["paths"]["/v1/topics/{topic}/messages"]["parameters"][0]["schema"]
    assert pattern["pattern"] == f"^{model_topics._TOPIC.pattern}$"
    sizes = set(re.findall(r"(\d+) MiB", openapi.source()))
    assert sizes == {str(PAGE_BYTES // 2**20)}


def test_enumerations_are_the_words_that_the_views_take(description):
    for path, words in (
        ("/v1/topics/{topic}/messages", searches.FORMATS),
        ("/v1/dead-letters", dead_letters.FORMATS),
    ):
        parameters = {p["name"]: p for p in description["paths"][path]["get"]["parameters"]}
        assert parameters["format"]["schema"]["enum"] == list(words)
    undelivered = description["paths"]["/v1/endpoints/{name}/undelivered"]["get"]["parameters"]
    assert undelivered[0]["schema"]["enum"] == list(deliveries.STATES)
    parameters = {p["name"]: p for p in description["paths"]["/v1/messages"]["get"]["parameters"]}
    assert parameters["kind"]["schema"]["enum"] == list(KINDS)


def test_examples_of_problems_are_types_of_the_code(description):
    types = {(t.status, t.name, t.title) for t in problems.TYPES}
    for name, response in description["components"]["responses"].items():
        example = response["content"]["application/problem+json"]["example"]
        word = example["type"].removeprefix("urn:queue-appliance:problem:")
        assert (example["status"], word, example["title"]) in types, name


def test_responses_with_a_shared_problem_have_its_status(description):
    shared = description["components"]["responses"]
    for operation in operations(description).values():
        for status, response in operation["responses"].items():
            if "$ref" in response:
                problem = shared[response["$ref"].rpartition("/")[2]]
                content = problem["content"]["application/problem+json"]
                assert str(content["example"]["status"]) == status


def test_shared_parts_are_all_used(description):
    text = json.dumps(description)
    for kind in ("schemas", "responses"):
        for name in description["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text


def test_files_that_are_no_modules_are_shipped_with_the_package():
    shipped = configparser.ConfigParser()
    shipped.read(ROOT / "setup.cfg")
    patterns = shipped["options.package_data"]["appliance"].split()
    package = ROOT / "appliance"
    files = {
        path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    listed = {path for each in patterns for path in package.glob(each) if path.is_file()}
    assert {path for path in files if path.suffix != ".py"} == listed
