"""Kills programs (kill -9) in random order, as fast as a supervisor can restart them."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

#: The programs of the way of a message; supervisord numbers the workers.
PROGRAMS: Final = ("broker", "worker", "api")
#: Seconds between two kills, at least and at most.
_PAUSE: Final = (0.3, 3.0)


class Killer:
    """Kills one of `programs` after the other, each round in a random order.

    `processes` returns those that run: name -> pid. A program that was only just started is left
    alone, because a supervisor rightly gives up a program that fails at each of several starts. For
    the same reason no program is killed before `progress` (a count that grows) has grown since its
    last death; so a slow machine is not brought to a standstill.
    """

    def __init__(
        self,
        processes: Callable[[], dict[str, int]],
        progress: Callable[[], int],
        programs: Sequence[str] = PROGRAMS,
    ) -> None:
        self.kills: Counter[str] = Counter()
        self._processes = processes
        self._progress = progress
        self._programs = programs
        self._round: list[str] = []
        self._progress_at: dict[str, int] = {}

    def run(self, stop: threading.Event, on_turn: Callable[[], object] = lambda: None) -> None:
        """Kill until `stop` is set; `on_turn` is called before each kill."""
        while not stop.wait(random.uniform(*_PAUSE)):  # noqa: S311  # no secret
            on_turn()
            self.kill_one()

    def kill_one(self) -> str | None:
        """Kill the next one that may be killed; return its name, or None if there is none."""
        self._round = self._round or random.sample(self._programs, len(self._programs))
        running = self._processes()
        for program in self._round:
            pids = [pid for name, pid in running.items() if name.partition(":")[0] == program]
            before = self._progress_at.get(program, -1)
            if pids and self._progress() > before:
                try:
                    os.kill(random.choice(pids), signal.SIGKILL)  # noqa: S311
                except ProcessLookupError:
                    continue
                self._progress_at[program] = self._progress()
                self._round.remove(program)
                self.kills[program] += 1
                return program
        return None
