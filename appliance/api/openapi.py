"""The description of the interface: openapi.yaml with the version and the limits filled in."""

import re
from importlib import resources
from typing import Any

from appliance.api.pull import pull_options
from appliance.api.views import formats, parameters, processes
from appliance.auth.signatures.kinds import KINDS
from appliance.config import Config
from appliance.supervision import process_logs


def values(config: Config, version: str) -> dict[str, object]:
    """Return the value of each `${name}` in the file."""
    return {
        "version": version,
        "max_message_bytes": config.max_message_bytes,
        "max_request_bytes": config.max_request_bytes,
        "max_batch_messages": config.max_batch_messages,
        "default_limit": parameters.DEFAULT_LIMIT,
        "max_limit": parameters.MAX_LIMIT,
        "receive_limit": pull_options.DEFAULT_LIMIT,
        "max_receive_limit": pull_options.MAX_LIMIT,
        "max_receive_wait": pull_options.MAX_WAIT,
        "log_lines": processes.DEFAULT_LINES,
        "most_log_lines": process_logs.MOST_LINES,
        "inbox_kinds": ", ".join(KINDS),
        "message_columns": ", ".join(formats.COLUMNS),
        "dead_letter_columns": ", ".join(formats.LETTER_COLUMNS),
    }


def source() -> str:
    """Return the file as it is shipped."""
    return resources.files("appliance.api").joinpath("openapi.yaml").read_text("utf-8")


def describe(config: Config, version: str, server: str = "/") -> dict[str, Any]:
    """Return the OpenAPI document of an API of this version with these limits, at this address."""
    import yaml  # noqa: PLC0415  # most API processes are never asked for it

    fields = values(config, version)
    text = re.sub(r"\$\{(\w+)\}", lambda match: str(fields[match[1]]), source())
    document: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)  # a safe one
    document["servers"] = [{"url": server}]
    return document
