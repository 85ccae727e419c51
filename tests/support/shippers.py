"""Requests of log shippers that Debian does not have, as their documentation says they are made."""

import gzip
import json
import tomllib
from typing import Any

import httpx
from recipes import PUBLIC_URL


def fluent_bit(configuration: str, records: list[dict[str, Any]], server: str) -> httpx.Response:
    """Send records as Fluent Bit's output `http` does with this section `[OUTPUT]`."""
    head, *lines = configuration.split("\n")
    assert head == "[OUTPUT]"
    values = dict(line.split(maxsplit=1) for line in lines if line.strip())
    assert (values["name"], values["format"]) == ("http", "json")
    scheme = "https" if values["tls"] == "on" else "http"
    public = f"{scheme}://{values['host']}"
    if public != PUBLIC_URL:
        assert f"{public}:{values['port']}" == server
    key = values["json_date_key"]
    assert values["json_date_format"] == "iso8601"
    dated = [{key: "2026-11-27T20:00:00.123456Z", **record} for record in records]
    content = json.dumps(dated, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Fluent-Bit"}
    if values.get("compress") == "gzip":
        content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
    if "http_user" in values:
        pair = values["http_user"], values["http_passwd"]
        return _post(server + values["uri"], content, headers, pair)
    return _post(server + values["uri"], content, headers)


def vector(configuration: str, events: list[dict[str, Any]]) -> httpx.Response:
    """Send events as Vector's sink `http` does with this configuration."""
    (sink,) = tomllib.loads(configuration)["sinks"].values()
    assert (sink["type"], sink["method"], sink["encoding"]) == ("http", "post", {"codec": "json"})
    texts = [json.dumps(each, separators=(",", ":")) for each in events]
    if sink.get("framing") == {"method": "newline_delimited"}:
        content = "".join(f"{text}\n" for text in texts).encode()
    else:
        content = f"[{','.join(texts)}]".encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Vector/0.50.0"}
    headers |= sink.get("request", {}).get("headers", {})
    if sink.get("compression") == "gzip":
        content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
    return _post(sink["uri"], content, headers)


def _post(
    url: str, content: bytes, headers: dict[str, str], pair: tuple[str, str] | None = None
) -> httpx.Response:
    return httpx.post(url, content=content, headers=headers, auth=pair, timeout=30, trust_env=False)
