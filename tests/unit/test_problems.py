import json

import pytest

from appliance import errors
from appliance.api.http import problems


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.TopicError("x"), 400),
        (errors.BodyError("x"), 400),
        (errors.InputError("x"), 400),
        (errors.TooLargeError("x"), 413),
        (errors.KeyReusedError("x"), 422),
        (errors.RefusedError("x"), 503),
        (errors.DeadlineError("x"), 503),
        (errors.BrokerError("x"), 503),
        (errors.StoreError("x"), 503),
        (errors.StoreFullError("x"), 503),
        (errors.SchemaError("x"), 503),
        (errors.ConfigError("x"), 500),
    ],
)
def test_an_error_has_its_status(error, status):
    assert problems.of(error).status == status


def test_every_503_and_429_says_when_to_try_again():
    for kind in _kinds(errors.ApplianceError):
        problem = problems.of(kind("x"))
        assert ("Retry-After" in problem.headers) == (problem.status in (429, 503)), kind


def test_every_error_that_a_client_can_cause_is_a_4xx_with_a_stable_type():
    for kind in _kinds(errors.InputError):
        problem = problems.of(kind("what was wrong"))
        assert 400 <= problem.status < 500
        assert problem.type.startswith("urn:queue-appliance:problem:")
        assert problem.detail == "what was wrong"


def test_types_differ_between_problems():
    every = {problems.of(kind("x")).type for kind in _kinds(errors.InputError)}
    every |= {problems.unauthorized().type, problems.not_found("x").type, problems.internal().type}
    every |= {problems.method_not_allowed(["GET"]).type}
    assert len(every) == len(set(_kinds(errors.InputError))) + 4


def test_the_body_is_a_line_of_json_with_the_members_of_rfc_9457():
    body = problems.bad_request("no").encode()
    assert body.endswith(b"\n")
    assert json.loads(body) == {
        "type": "urn:queue-appliance:problem:bad-request",
        "title": "Bad request",
        "status": 400,
        "detail": "no",
    }


def test_extra_members_are_shown():
    problem = problems.Problem(400, "about:blank", "t", "d", extra={"line": 7})
    assert json.loads(problem.encode())["line"] == 7


def test_a_lone_surrogate_in_the_detail_is_written_out():
    assert json.loads(problems.bad_request("\udcff").encode())["detail"] == "\\udcff"


def test_unauthorized_names_the_schemes_and_is_always_the_same():
    assert problems.unauthorized().headers["WWW-Authenticate"].startswith("Basic")
    assert problems.unauthorized() == problems.unauthorized()


def test_method_not_allowed_names_the_methods():
    assert problems.method_not_allowed(["POST", "GET"]).headers == {"Allow": "GET, POST"}


def test_paths_and_sql_of_a_store_error_stay_inside():
    assert "/data" not in problems.of(errors.StoreError("/data/appliance.db: disk I/O")).detail


def test_retry_after_of_a_message_that_may_still_come():
    assert problems.not_found("x", retry_after=1).headers == {"Retry-After": "1"}
    assert problems.not_found("x").headers == {}


def _kinds(root):
    found = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, root)]
    return [kind for kind in found if kind is not errors.EnvelopeError]  # a worker's, with a reason


def test_types_are_those_of_the_errors_and_of_the_functions():
    made = [problems.of(kind("x")) for kind in _kinds(errors.ApplianceError)]
    made += [
        problems.unauthorized(),
        problems.bad_signature("too-old", "x"),
        problems.forbidden("x"),
        problems.not_found("x"),
        problems.bad_request("x"),
        problems.rate_limited(3),
        problems.too_many_streams("x"),
    ]
    made += [problems.method_not_allowed(["GET"]), problems.internal()]
    listed = {(t.status, f"urn:queue-appliance:problem:{t.name}", t.title) for t in problems.TYPES}
    assert {(problem.status, problem.type, problem.title) for problem in made} == listed


def test_types_have_names_and_titles_of_their_own():
    assert len({t.name for t in problems.TYPES}) == len(problems.TYPES)
    assert len({t.title for t in problems.TYPES}) == len(problems.TYPES)


@pytest.mark.parametrize("kind", [errors.ApplianceError, errors.StoreError, errors.BackupError])
def test_public_words_of_an_error_are_not_its_message_unless_its_class_says_so(kind):
    assert "/data" not in kind("/data/appliance.db: disk I/O").public


@pytest.mark.parametrize("kind", [errors.InputError, errors.BrokerError, errors.BackupRoomError])
def test_public_words_of_an_error_about_the_request_are_its_message(kind):
    assert kind("no room").public == "no room"
