"""Structured logs: JSON lines for machines, text for people, fields in the journal."""

import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

from appliance.config import Config
from appliance.logs import journald, terminal


def configure(config: Config, process: str) -> None:
    """Send every log line of this process, also of its libraries, to standard error.

    Or to systemd's journal, where that is behind it and no format is asked for. `process` is put on
    every line as `process`.
    """
    log_format = config.log_format
    if log_format == "auto":
        log_format = "terminal" if sys.stderr.isatty() else "json"
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    if config.log_format == "auto" and journald.connected():
        handler, renderer = journald.JournalHandler(), journald.render
    elif log_format == "terminal":
        renderer = _render_for_terminal
    elif log_format == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=False)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(
            fmt="iso", utc=True, key="timestamp" if log_format == "text" else "time"
        ),
    ]
    if log_format != "text":
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # pika reports every step of a reconnection as an error; our own lines report each once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(process=process)


def _render_for_terminal(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return one line: structlog's last processor."""
    return terminal.line(
        datetime.now(UTC), str(event.get("level", "info")), str(event.get("event", "")), event
    )
