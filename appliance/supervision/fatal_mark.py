"""The mark that the event listener leaves for `appliance run`: why it ended everything."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FatalMark:
    """The program that ended the appliance, and the reason; a file of the run folder."""

    program: str
    reason: str

    @staticmethod
    def path(run_folder: Path) -> Path:
        """Path of the mark's file."""
        return run_folder / "fatal"

    def leave(self, run_folder: Path) -> None:
        """Write the mark."""
        self.path(run_folder).write_text(
            json.dumps({"program": self.program, "reason": self.reason}) + "\n"
        )

    @classmethod
    def find(cls, run_folder: Path) -> "FatalMark | None":
        """Return the mark, or None where none was left."""
        try:
            return cls(**json.loads(cls.path(run_folder).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as error:
            return cls("a program", f"can't be read from {cls.path(run_folder)}: {error}")
