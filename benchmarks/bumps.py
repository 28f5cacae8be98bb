"""The bump beside what people write themselves: clone, `kustomize edit set image`, commit, push.

Neither side renders (`--no-render`): what is measured is the edit and its way into the env repository over HTTP.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.rows import Row
from sandbox import parts
from sandbox.gitlab import Access, Gitlab, Project
from sandbox.proxy import Proxy

FILES_OF_AN_APP = 12
KUSTOMIZATION = (
    "resources:\n- ../../base\nimages:\n- name: web\n  newName: registry.example.com/web\n  newTag: {tag}\n"
)
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m{number}\ndata:\n  text: {filler}\n"
WHO = "Anna <anna@example.com> {when} +0000"
AT_ONCE = 50
TOOL = str(Path(sys.executable).parent / "pipeline-tools")

SCRIPT = """
set -e
git clone --quiet --depth 1 "$URL" work
cd work/"$OVERLAY"
kustomize edit set image "web=registry.example.com/web:$TAG"
git commit --quiet --all --message "Bump web $TAG"
tries=0
until git push --quiet; do
  tries=$((tries + 1))
  [ $tries -le ${RETRIES:-0} ] || exit 1
  git pull --quiet --rebase
done
"""
"""What people write; with RETRIES the usual loop of pull --rebase and push."""


@dataclass(frozen=True)
class Env:
    """An env repository of `apps` applications behind a server, and who may push to it."""

    gitlab: Gitlab
    project: Project
    proxy: Proxy
    token: str
    directory: Path
    is_counted: bool = True

    @property
    def address(self) -> str:
        """Through the proxy where bytes are counted; it takes only a few connections at a time."""
        host = f"http://{self.proxy.host}" if self.is_counted else self.gitlab.url
        return f"{host}/{self.project.path}.git"

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("CI_", "PT_", "GITLAB_", "GIT_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = os.pathsep.join((str(parts.NODE_BIN), os.environ["PATH"]))
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "Anna"), ("EMAIL", "anna@example.com"))}  # fmt: skip
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
        # As the job has it: GitLab names project, commit and tag, so no checkout is looked at.
        job = {
            "GITLAB_CI": "true",
            "CI_PROJECT_PATH": "shop/web",
            "CI_COMMIT_SHA": "1" * 40,
            "CI_COMMIT_TAG": "v2.0.0",
        }
        return {**kept, **who, **quiet, **job, "PATH": path, "PT_ENV_TOKEN": self.token}

    def ours(self, app: int, tag: str) -> "subprocess.Popen[bytes]":
        words = (
            *("bump", "--no-render", "--env-project", self.address, "--env-branch", "main"),
            *("--overlay", overlay(app)),
            *("--image", f"web=registry.example.com/web:{tag}@sha256:{app + 1:064x}"),
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen((TOOL, *words), cwd=self.directory / "app", env=self.environment, **quiet)  # type: ignore[call-overload, no-any-return]

    def theirs(self, app: int, tag: str, retries: int = 0) -> "subprocess.Popen[bytes]":
        place = Path(tempfile.mkdtemp(dir=self.directory))
        url = self.address.replace("://", f"://oauth2:{self.token}@")
        variables = {"URL": url, "OVERLAY": overlay(app), "TAG": tag, "RETRIES": str(retries)}
        environment = {**self.environment, **variables}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(("sh", "-c", SCRIPT), cwd=place, env=environment, **quiet)  # type: ignore[call-overload, no-any-return]

    def tag(self, app: int) -> str:
        """What the tip says."""
        text = git(self.project.repository, "show", f"main:{overlay(app)}/kustomization.yaml")
        return next(line.split()[-1].strip('"') for line in text.splitlines() if "newTag" in line)


def overlay(app: int) -> str:
    return f"apps/{app:05}/overlays/dev"


def git(directory: Path, *words: str, stdin: bytes = b"") -> str:
    done = subprocess.run(("git", "-C", str(directory), *words), input=stdin, capture_output=True, check=True)
    return done.stdout.decode()


@contextmanager
def opened(directory: Path, files: int, commits: int) -> Iterator[Env]:
    """An env repository of so many files and commits, served as long as the block runs."""
    with Gitlab.start(directory / "gitlab") as gitlab:
        project = gitlab.create_project("platform/env")
        git(project.repository, "fast-import", "--quiet", stdin=history(files, commits))
        token = gitlab.create_token(
            project, "bump", access_level=Access.MAINTAINER, scopes={"write_repository"}
        )
        proxy = Proxy(gitlab.url.removeprefix("http://"))
        with proxy.running():
            app = directory / "app"
            git(directory, "init", "--quiet", str(app))
            who = ("-c", "user.name=Anna", "-c", "user.email=anna@example.com")
            git(app, *who, "commit", "--quiet", "--allow-empty", "--message", "an application")
            yield Env(gitlab, project, proxy, token, directory)


def history(files: int, commits: int) -> bytes:
    """A fast-import stream (git-fast-import(1)): all files in the first commit, one image bumped in each other."""
    lines = list(_commit(1, "Initial commit"))
    for app in range(files // FILES_OF_AN_APP):
        for stage in ("dev", "prod"):
            lines += _file(
                f"apps/{app:05}/overlays/{stage}/kustomization.yaml", KUSTOMIZATION.format(tag="1.0.0")
            )
        for number in range(FILES_OF_AN_APP - 2):
            text = MANIFEST.format(number=number, filler=_filler(f"{app}-{number}"))
            lines += _file(f"apps/{app:05}/base/m{number}.yaml", text)
    for number in range(2, commits + 1):
        lines += _commit(number, f"Bump {number}")
        app = number % (files // FILES_OF_AN_APP)
        lines += _file(
            f"{overlay(app).replace('dev', 'prod')}/kustomization.yaml",
            KUSTOMIZATION.format(tag=f"1.0.{number}"),
        )
    return "".join(lines).encode()


def _filler(seed: str, lines: int = 24) -> str:
    """About as much text as a Deployment has (2 KB), no two alike."""
    words = [hashlib.sha256(f"{seed} {line}".encode()).hexdigest() for line in range(lines)]
    return "|\n" + "".join(f"    {word[:32]}: {word[32:]}\n" for word in words)


def _commit(number: int, message: str) -> Iterator[str]:
    yield f"commit refs/heads/main\ncommitter {WHO.format(when=1_700_000_000 + number)}\n"
    yield f"data {len(message)}\n{message}\n"


def _file(path: str, text: str) -> Iterator[str]:
    yield f"M 100644 inline {path}\ndata {len(text)}\n{text}\n"


def rows() -> list[Row]:
    """All of them, or none where kustomize is missing."""
    if problem := parts.KUSTOMIZE.problem():
        print(f"bump: left out, {problem}")
        return []
    return [*large(), growth(), *crowd()]


def in_turn(env: Env, runs: int = 7) -> tuple[float, float]:
    """The best time of each side, without the proxy: it takes a while for each connection."""
    straight = replace(env, is_counted=False)
    mine, other = [], []
    for number in range(runs):
        mine.append(_timed(straight.ours, 1, f"2.0.{number}"))
        other.append(_timed(straight.theirs, 2, f"2.0.{number}"))
    return min(mine), min(other)


def moved(env: Env) -> int:
    """Bytes that one of our bumps sends and gets."""
    with env.proxy.recording() as exchanges:
        _timed(env.ours, 3, "2.0.0")
    return sum(exchange.sent + exchange.received for exchange in exchanges)


def large() -> Iterator[Row]:
    """24 000 files and 4 000 commits."""
    with tempfile.TemporaryDirectory() as name, opened(Path(name), 24_000, 4_000) as env:
        what = "`bump` in 24 000 files and 4 000 commits, not rendered"
        yield Row(what, "clone --depth 1, kustomize edit, commit, push", *in_turn(env), 0.1)
        yield Row(f"{what}: bytes moved", "2 MB", moved(env) / 1e6, 2.0, 1.0, unit="MB")


def growth() -> Row:
    """100 000 files beside 1 000."""
    return Row("`bump` in 100 000 files, not rendered", "in 1 000 files", _among(100_000), _among(1_000), 2.0)


def _among(files: int, runs: int = 5) -> float:
    """The best time of a bump among so many files."""
    with tempfile.TemporaryDirectory() as name, opened(Path(name), files, 20) as made:
        env = replace(made, is_counted=False)
        return min(_timed(env.ours, 1, f"2.0.{number}") for number in range(runs))


def _timed(start: Callable[[int, str], "subprocess.Popen[bytes]"], app: int, tag: str) -> float:
    begun = time.perf_counter()
    process = start(app, tag)
    if process.wait():
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return time.perf_counter() - begun


def crowd() -> Iterator[Row]:
    """Fifty at once: of fifty images, and of one image with rising versions; how many did not arrive."""
    with tempfile.TemporaryDirectory() as name, opened(Path(name), 2_400, 50) as made:
        env = replace(made, is_counted=False)
        lost = _lost(env, [(app, "2.0.0") for app in range(AT_ONCE)], is_ours=True)
        theirs = _lost(env, [(app + AT_ONCE, "2.0.0") for app in range(AT_ONCE)], is_ours=False)
        what = f"{AT_ONCE} bumps of {AT_ONCE} images at once: lost"
        yield Row(what, "pull --rebase and push, 5 tries", lost, theirs, unit="bumps")
        _lost(env, [(150, f"3.0.{n}") for n in range(AT_ONCE)], is_ours=True)
        highest = f"3.0.{AT_ONCE - 1}"
        text = f"{AT_ONCE} rising versions of one image at once: the highest is at the tip"
        yield Row(text, "it must be", float(env.tag(150) == highest), 1.0, unit="")
        merges = git(env.project.repository, "rev-list", "--merges", "--count", "main")
        yield Row("merge commits after that", "none", float(merges), 0.0, unit="")


def _lost(env: Env, bumps: list[tuple[int, str]], *, is_ours: bool) -> int:
    """How many of the bumps are not at the tip afterwards."""
    start = env.ours if is_ours else (lambda app, tag: env.theirs(app, tag, retries=5))
    for process in [start(app, tag) for app, tag in bumps]:
        process.wait()
    for place in env.directory.glob("tmp*"):
        shutil.rmtree(place, ignore_errors=True)
    return sum(env.tag(app) != tag for app, tag in bumps)
