"""The console's static files, each under an address that names its content.

So a browser can keep them for ever, and a new version of the program has new addresses.
"""

import functools
import hashlib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from flask import Response, request, url_for
from werkzeug.exceptions import NotFound

#: By the end of a file's name; other files are not served.
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: A line of a script that is nothing but a comment: for who reads the source, not for browsers.
_COMMENT: Final = re.compile(rb"^[ \t]*//.*\n", re.MULTILINE)
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """One file; `version` is the beginning of its SHA-256."""

    content: bytes
    media_type: str
    version: str


@functools.cache
def assets() -> dict[str, Asset]:
    """Return all files by name, such as `console.css`."""
    return dict(_read(resources.files("appliance.console") / "static", ""))


def asset_url(name: str) -> str:
    """Return the address of a file, under which it never changes."""
    return url_for("console.show_asset", name=name, v=assets()[name].version)


def show_asset(name: str) -> Response:
    """Answer with a file, to be kept for ever if the address names its content."""
    asset = assets().get(name)
    if asset is None:
        raise NotFound
    answer = Response(asset.content, content_type=asset.media_type)
    is_exact = request.args.get("v") == asset.version
    answer.headers["Cache-Control"] = _FOR_EVER if is_exact else "no-cache"
    return answer


def _read(folder: Traversable, prefix: str) -> list[tuple[str, Asset]]:
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _read(each, f"{prefix}{each.name}/")
        elif media_type := _TYPES.get(each.name.rpartition(".")[2]):
            content = each.read_bytes()
            if each.name.endswith(".js") and not prefix:
                content = _COMMENT.sub(b"", content)
            version = hashlib.sha256(content).hexdigest()[:8]
            found.append((prefix + each.name, Asset(content, media_type, version)))
    return found
