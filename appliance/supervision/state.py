"""The state of one process, in the same words under supervisord and systemd."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessState:
    """The state of one process."""

    name: str
    #: supervisord's word: RUNNING, EXITED, BACKOFF, ...
    state: str
    pid: int | None
    uptime_seconds: float | None
    #: the last status text, the end or the fault, for people
    detail: str
