"""Answers of the Flask application: JSON, exports and problems."""

from collections.abc import Iterator

from flask import Response

from appliance.api.http import problems
from appliance.api.views import formats
from appliance.model.meta import content_type


def json_answer(value: object, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(formats.dump(value), status=status, content_type=formats.JSON)


def ndjson_answer(lines: Iterator[bytes]) -> Response:
    """Answer with one JSON object per line, sent piece by piece."""
    return Response(lines, content_type=formats.NDJSON)


def csv_answer(table: Iterator[bytes], name: str) -> Response:
    """Answer with a table, sent piece by piece; a browser saves it as `name`.csv."""
    answer = Response(table, content_type=formats.CSV)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def body_answer(body: bytes, media_type: str) -> Response:
    """Answer with a message's bytes, under the media type that its sender named.

    A stranger may have sent a page: a browser that opens it runs nothing of it, as nobody.
    """
    answer = Response(body, content_type=content_type(media_type) or "application/octet-stream")
    answer.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return answer


def problem_answer(problem: problems.Problem) -> Response:
    """Answer with a problem (RFC 9457)."""
    answer = Response(problem.encode(), status=problem.status, content_type=problems.CONTENT_TYPE)
    answer.headers.update(problem.headers)
    return answer
