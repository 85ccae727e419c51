"""The condition of an alert: something that is wrong now, in words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """Something that is wrong now."""

    kind: str
    subject: str
    text: str
    patience: float = 0.0

    @property
    def key(self) -> str:
        """Name of its alert."""
        return f"{self.kind}:{self.subject}" if self.subject else self.kind
