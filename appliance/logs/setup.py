"""Structured logs: JSON lines for machines, readable text on a terminal, fields in the journal."""

import logging
import sys

import structlog

from appliance.config import Config
from appliance.logs import journald


def configure(config: Config, process: str) -> None:
    """Send every log line of this process, also of its libraries, to standard error.

    Or to systemd's journal, where that is behind it and no format is asked for. `process` is put on
    every line as `process`.
    """
    as_text = config.log_format == "text" or (config.log_format == "auto" and sys.stderr.isatty())
    handler: logging.Handler
    renderer: structlog.types.Processor
    if config.log_format == "auto" and journald.connected():
        handler, renderer = journald.Handler(), journald.render
    elif as_text:
        handler = logging.StreamHandler(sys.stderr)
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    else:
        handler, renderer = logging.StreamHandler(sys.stderr), structlog.processors.JSONRenderer()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(
            fmt="iso", utc=True, key="timestamp" if as_text else "time"
        ),
    ]
    if not as_text:
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
    # pika reports every step of a reconnection as an error; ours say what matters once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(process=process)
