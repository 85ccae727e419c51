"""The API and its description: it is asked what the description allows, and held to the answer.

Hypothesis makes the requests, the same ones each time: parameters and bodies of the described
shape, and hostile ones. Right is an answer whose status and media type are described, and whose
JSON has the described shape. It is never a 5xx.
"""

import json
import re
from typing import Any
from urllib.parse import quote

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: Requests for each call.
EXAMPLES = 8
#: Calls that take seconds, never end, or end a process.
LEFT_OUT = {"restart", "doctor", "backup", "makeBackup", "stream", "streamTopic"}
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,  # the same requests each time
    database=None,
    deadline=None,  # the machine may be busy
    suppress_health_check=list(HealthCheck),
)
HOSTILE = st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "../..",
        "%",
        "'\"",
        "{}",
        "9" * 30,
        "-1",
        "null",
        "\u202e",
        "a" * 300,
    ]
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


class Description:
    """The served description, with its references followed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def plain(self, part: Any) -> Any:
        while isinstance(part, dict) and "$ref" in part:
            name = part["$ref"].removeprefix("#/").split("/")
            part = self.document
            for key in name:
                part = part[key]
        return part

    def operations(self) -> list[tuple[str, str, list[Any], dict[str, Any]]]:
        return [
            (
                path,
                method,
                [*item.get("parameters", []), *operation.get("parameters", [])],
                operation,
            )
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
            if method != "parameters" and operation["operationId"] not in LEFT_OUT
        ]

    def validator(self, schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
        whole = {**schema, "components": self.document["components"]}
        return jsonschema_rs.Draft202012Validator(whole)


def values(schema: dict[str, Any], description: Description) -> st.SearchStrategy[Any]:
    """What has the shape of a schema."""
    schema = description.plain(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    if "examples" in schema:
        return st.sampled_from(schema["examples"])
    kinds = schema.get("type", "any")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "integer":
        return st.integers(schema.get("minimum", -5), schema.get("maximum", 10**6))
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        return st.lists(values(schema.get("items", {}), description), max_size=3)
    if kind == "object":
        members = schema.get("properties", {})
        required = {name for name in members if name in schema.get("required", ())}
        return st.fixed_dictionaries(
            {name: values(members[name], description) for name in required},
            optional={
                name: values(part, description)
                for name, part in members.items()
                if name not in required
            },
        )
    return st.text(max_size=20) if kind == "string" else ANY_JSON


def texts(schema: dict[str, Any], description: Description) -> st.SearchStrategy[str]:
    """The same as it stands in an address; now and then something hostile."""
    right = values(schema, description).map(lambda v: v if isinstance(v, str) else json.dumps(v))
    return st.one_of(right, right, right, HOSTILE)


def bodies(operation: dict[str, Any], description: Description) -> st.SearchStrategy[bytes | None]:
    content = operation.get("requestBody", {}).get("content", {})
    if not content:
        return st.none()
    schema = next(iter(content.values())).get("schema", {})
    shaped = values(schema, description).map(lambda value: json.dumps(value).encode())
    return st.one_of(shaped, shaped, ANY_JSON.map(lambda v: json.dumps(v).encode()), st.binary())


def check(answer: Any, operation: dict[str, Any], description: Description) -> None:
    described = operation["responses"]
    assert answer.status_code < 500, answer.text
    assert str(answer.status_code) in described, (answer.status_code, answer.text)
    response = description.plain(described[str(answer.status_code)])
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    content = response.get("content", {})
    if not content or not answer.content:
        return
    assert media_type in content or "*/*" in content, media_type
    schema = content.get(media_type, {}).get("schema")
    if schema and "json" in media_type and "ndjson" not in media_type:
        errors = list(description.validator(schema).iter_errors(answer.json()))
        assert not errors, (str(errors[0])[:600], answer.text[:300])


def asking(stack: Any, description: Description, path: str, method: str, operation: Any) -> Any:
    """Return what asks one call with the values that Hypothesis finds."""

    def ask(names: dict[str, str], asked: dict[str, str], body: bytes | None) -> None:
        filled = re.sub(
            r"\{(\w+)\}",
            lambda match: quote(names[match[1]].encode(errors="replace"), safe="") or "%20",
            path,
        )
        params = {name: value.encode(errors="replace") for name, value in asked.items()}
        answer = stack.client.request(method.upper(), filled, params=params, content=body)
        check(answer, operation, description)

    return ask


@pytest.mark.slow
def test_the_api_answers_as_it_is_described_whatever_it_is_asked(module_stack):
    """Waits for some hundred answers."""
    stack = module_stack()
    description = Description(stack.get("/openapi.json").json())
    stack.publish("a", b'{"a": 1}')
    stack.publish("a", b"not json", {"split": "ndjson", "on-bad": "dead-letter"})
    stack.wait_rows(1)
    for path, method, parameters, operation in description.operations():
        in_path, in_query = (
            {p["name"]: texts(p["schema"], description) for p in parameters if p["in"] == place}
            for place in ("path", "query")
        )
        ask = asking(stack, description, path, method, operation)
        SETTINGS(
            given(
                st.fixed_dictionaries(in_path),
                st.fixed_dictionaries({}, optional=in_query),
                bodies(operation, description),
            )(ask)
        )()
