"""What every measurement is made of: a row of the page, and how two things are measured side by side."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

RUNS = 15


@dataclass(frozen=True)
class Row:
    """One comparison, in `unit`; `goal` is the highest ratio we promise, None where nothing is promised."""

    what: str
    against: str
    value: float
    baseline: float
    goal: float | None = None
    unit: str = "s"

    def markdown(self) -> str:
        ratio = f"{self.value / self.baseline:.2f}" if self.baseline else ""
        goal = f"≤ {self.goal:g}" if self.goal else ""
        digits = {"s": 3, "MB": 3}.get(self.unit, 0)
        mine, other = (f"{number:.{digits}f} {self.unit}".strip() for number in (self.value, self.baseline))
        return f"| {self.what} | {self.against} | {mine} | {other} | {ratio} | {goal} |"


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def program(
    *words: str, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> Callable[[], object]:
    """A program from this environment, run to its end."""
    argv = (str(Path(sys.executable).parent / words[0]), *words[1:])
    return lambda: subprocess.run(argv, check=True, capture_output=True, env=environment, cwd=directory)


def side_by_side(
    mine: Callable[[], object], other: Callable[[], object], runs: int = RUNS
) -> tuple[float, float]:
    """The best time of each, run alternately."""
    rounds = [(seconds(mine), seconds(other)) for _ in range(runs)]
    return min(first for first, _ in rounds), min(second for _, second in rounds)
