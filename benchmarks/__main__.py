"""`make bench`: ratios, side by side in one run, written to docs/benchmarks.md.

Machines are noisy, so nothing here is a test: each pair runs interleaved and the best of the runs counts.
"""

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox import demo, parts

PAGE = parts.ROOT / "docs" / "benchmarks.md"
RUNS = 15
INTRODUCTION = """# Benchmarks

Written by `make bench`; each row compares two things measured alternately in one run, and the best of {runs} runs
counts. Seconds depend on the machine ({machine}), ratios much less.

| what | against | seconds | against | ratio | goal |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One comparison, in seconds; `goal` is the highest ratio we promise, None where nothing is promised."""

    what: str
    against: str
    seconds: float
    baseline: float
    goal: float | None = None

    def markdown(self) -> str:
        ratio = f"{self.seconds / self.baseline:.2f}"
        goal = f"≤ {self.goal:g}" if self.goal else ""
        return (
            f"| {self.what} | {self.against} | {self.seconds:.3f} | {self.baseline:.3f} | {ratio} | {goal} |"
        )


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def program(*words: str) -> Callable[[], object]:
    """A program from this environment, run to its end."""
    argv = (str(Path(sys.executable).parent / words[0]), *words[1:])
    return lambda: subprocess.run(argv, check=True, capture_output=True)


def side_by_side(mine: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """The best time of each, run alternately."""
    rounds = [(seconds(mine), seconds(other)) for _ in range(RUNS)]
    return min(first for first, _ in rounds), min(second for _, second in rounds)


def start_up() -> list[Row]:
    """What a person or a job waits for before anything happens."""
    click = program("python", "-c", "import click")
    cases = {"--help": 1.5, "tag check --help": None, "bump --help": None, "release --help": None}
    return [
        Row(
            f"`pipeline-tools {words}`",
            '`python -c "import click"`',
            *side_by_side(program("pipeline-tools", *words.split()), click),
            goal,
        )
        for words, goal in cases.items()
    ]


def releases() -> list[Row]:
    """The example application's release, on the demo's servers; the pipeline is not awaited."""
    missing = [problem for part in demo.NEEDED if (problem := part.problem())]
    if missing:
        print("release: left out, " + "; ".join(missing))
        return []
    with tempfile.TemporaryDirectory() as directory, demo.opened(Path(directory) / "workspace") as world:
        world.quietly("pipeline-tools", "tag", "create", "v1.0.0")
        world.quietly("git", "fetch", "--quiet", "--tags")
        first = seconds(lambda: world.quietly("pipeline-tools", "release"))
        again = min(seconds(lambda: world.quietly("pipeline-tools", "release")) for _ in range(5))
    return [Row("`release` again, all done", "the first `release`", again, first)]


def main() -> None:
    """Measure, print and write the page."""
    machine = f"Python {platform.python_version()}, {platform.machine()}"
    rows = [*start_up(), *releases()]
    text = INTRODUCTION.format(runs=RUNS, machine=machine) + "\n".join(row.markdown() for row in rows) + "\n"
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
