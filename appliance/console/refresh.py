"""Pages about something that is under way are asked for again by the browser itself."""

from typing import Final

from flask import Response

#: Seconds after which such a page is asked for again.
_AGAIN_SECONDS: Final = 2


def again_while(text: str, is_under_way: bool) -> Response:
    """Answer with a page; have the browser ask for it again while something is under way."""
    answer = Response(text, content_type="text/html; charset=utf-8")
    if is_under_way:
        answer.headers["Refresh"] = str(_AGAIN_SECONDS)
    return answer
