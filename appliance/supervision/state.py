"""What is known of one process, whoever supervises it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessState:
    """One process: `state` is supervisord's word (RUNNING, EXITED, BACKOFF, ...)."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: float | None
    detail: str
