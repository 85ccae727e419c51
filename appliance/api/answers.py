"""How the Flask application answers: JSON and problems."""

from flask import Response

from appliance.api import formats, problems


def json_answer(value: object, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(formats.dump(value), status=status, content_type=formats.JSON)


def problem_answer(problem: problems.Problem) -> Response:
    """Answer with a problem (RFC 9457)."""
    answer = Response(problem.encode(), status=problem.status, content_type=problems.CONTENT_TYPE)
    answer.headers.update(problem.headers)
    return answer
