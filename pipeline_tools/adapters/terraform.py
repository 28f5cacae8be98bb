"""Terraform or OpenTofu in one root, as a child: its words, its exit codes, and its errors in ours.

Sources: developer.hashicorp.com/terraform/cli/commands (init, plan, apply, show, state/pull, untaint, force-unlock,
version) and /terraform/internals/machine-readable-ui. Every word below was run with Terraform 1.11.4.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pipeline_tools.adapters import process, stream
from pipeline_tools.adapters.http_backend import HttpBackend
from pipeline_tools.adapters.process import CommandFailed
from pipeline_tools.errors import Interrupted, PipelineError, Stale
from pipeline_tools.text import terraform_said as said
from pipeline_tools.text.terraform_said import Lock, Locked

log = logging.getLogger(__name__)

OLDEST = (1, 11)
"""The first Terraform with `use_lockfile` for S3; OpenTofu has it since 1.10."""
OLDEST_TOFU = (1, 10)

SETTINGS = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1", "TF_WORKSPACE": "default"}
"""Of the child's environment (developer.hashicorp.com/terraform/cli/config/environment-variables).

The workspace is said because a folder remembers one (`.terraform/environment`), and it is another state.
"""

_CHANGES = 2
"""`plan -detailed-exitcode`: succeeded, and there are changes."""

_ERRORED_STATE = "errored.tfstate"
"""What Terraform leaves in the root when it could not store the state after an apply."""

_STALE = re.compile(r"^Error: Saved plan is stale$", re.MULTILINE)

_PROBE = "terraform_data.pipeline_tools_asks_who_holds_the_lock"


@dataclass(frozen=True)
class Version:
    """The tool: `terraform` or `tofu`, and its version; `providers` as the lock file selects them, by address."""

    name: str
    version: str
    providers: Mapping[str, str]


@dataclass
class Told:
    """What a streamed command said: the end of it, masked, to find out what went wrong."""

    tail: bytes = b""

    def add(self, chunk: bytes) -> bytes:
        self.tail = (self.tail + chunk)[-(1 << 16) :]
        return chunk

    @property
    def text(self) -> str:
        return said.plain(self.tail.decode(errors="replace"))


@dataclass
class _Kept:
    """A filter that also keeps the end of what passed through it."""

    inner: stream.Filter
    told: Told

    def feed(self, chunk: bytes) -> bytes:
        return self.told.add(self.inner.feed(chunk))

    def close(self) -> bytes:
        return self.told.add(self.inner.close())


@dataclass(frozen=True)
class _Chained:
    """Two filters, one after the other."""

    first: stream.Filter
    second: stream.Filter

    def feed(self, chunk: bytes) -> bytes:
        return self.second.feed(self.first.feed(chunk))

    def close(self) -> bytes:
        return self.second.feed(self.first.close()) + self.second.close()


@dataclass(frozen=True)
class Applied:
    """How an apply ended: the signals that came meanwhile, and what failed."""

    signals: tuple[int, ...]
    failure: PipelineError | None


@dataclass(frozen=True)
class Terraform:
    """The tool in one root.

    `through` makes the filter that every streamed byte passes, masked already; `stdout` is the descriptor that takes
    it. `grace` is how long an interrupted child may go on, in seconds. `has_colours` is whether plans are coloured.
    """

    binary: str
    root: Path
    environment: Mapping[str, str]
    through: Callable[[], stream.Filter]
    stdout: int = 1
    grace: float = 300.0
    has_colours: bool = False
    _env: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in self.environment.items() if not name.startswith("TF_CLI_ARGS")}
        object.__setattr__(self, "_env", {**kept, **SETTINGS})

    # Reading -----------------------------------------------------------------------------------------------

    def version(self) -> Version:
        """The tool's version, and after `init` its providers'.

        Raises:
            PipelineError: it is not installed, or older than what the stages rely on.
        """
        found = json.loads(self._run("version", "-json"))
        name = "tofu" if "tofu" in Path(self.binary).name else "terraform"
        oldest = OLDEST_TOFU if name == "tofu" else OLDEST
        text = str(found["terraform_version"])
        if tuple(int(number) for number in text.split("-", maxsplit=1)[0].split(".")[:2]) < oldest:
            raise PipelineError(
                f"{self.binary} is {text}, too old: {name} {'.'.join(map(str, oldest))} is the oldest that will do",
                hint="take a newer image, or name another with --terraform-binary",
            )
        return Version(name, text, dict(found.get("provider_selections") or {}))

    def init(self, settings: Iterable[str] = (), *, backend: bool = True) -> None:
        """Prepare the root: its backend, its modules, its providers as the lock file has them."""
        words = ("-reconfigure", *settings) if backend else ("-backend=false",)
        lock = ("-lockfile=readonly",) if (self.root / ".terraform.lock.hcl").exists() else ()
        self._run("init", "-input=false", "-no-color", *lock, *words)

    def pull(self) -> tuple[str, int]:
        """Lineage and serial of the state; ("", 0) where there is none yet."""
        text = self._run("state", "pull")
        if not text.strip():
            return "", 0
        try:
            found = json.loads(text)
            return str(found["lineage"]), int(found["serial"])
        except (ValueError, KeyError, TypeError):
            raise PipelineError(
                "the state is no Terraform state", hint="look at it: terraform state pull"
            ) from None

    def show(self, plan: Path) -> AbstractContextManager[BinaryIO]:
        """A saved plan as JSON, as it comes. It holds sensitive values in clear."""
        return process.opened(*self._words("show", "-json", str(plan)), environment=self._env)

    def lock(self) -> Lock | None:
        """Who holds the state's lock; None when nobody does.

        Asked by taking it for a moment, which every backend can (`untaint` of what is not there changes nothing).
        """
        try:
            self._run("untaint", "-no-color", "-lock-timeout=0s", "-allow-missing", _PROBE)
        except Locked as error:
            return error.lock
        return None

    def errored_state(self) -> Path | None:
        """The state that Terraform could not store, if it left one."""
        path = self.root / _ERRORED_STATE
        return path if path.is_file() else None

    # Planning and applying ---------------------------------------------------------------------------------

    def plan(self, out: Path, words: Iterable[str] = ()) -> bool:
        """Make a saved plan, without taking the lock; what Terraform says is streamed.

        Returns:
            Whether there is anything to apply.
        """
        told = Told()
        colours = () if self.has_colours else ("-no-color",)
        ended = self._stream(
            told, "plan", "-lock=false", "-detailed-exitcode", f"-out={out}", *colours, *words
        )
        if ended.signals:
            raise Interrupted(
                ended.signals[0],
                "interrupted while planning: nothing was changed",
                hint="plan again when you like",
            )
        if ended.code not in {0, _CHANGES}:
            raise self._failure("plan", told.text, ended.code)
        return ended.code == _CHANGES

    def apply(self, plan: Path, lock_timeout: float, ui: stream.Filter) -> "Applied":
        """Apply a saved plan, told through `ui`, a filter that understands `apply -json`.

        A signal reaches Terraform once, and once more when its grace is over.

        Raises:
            Stale: the state has changed since the plan was made; nothing was begun.
        """
        told = Told()
        words = ("-json", "-input=false", f"-lock-timeout={int(lock_timeout)}s", str(plan))
        filters = iter((_Chained(ui, self.through()), self.through()))
        ended = self._stream(told, "apply", *words, through=lambda: next(filters))
        # Whoever told us to end wants no other plan; and what a provisioner prints begins with its address.
        if ended.code and not ended.signals and _STALE.search(told.text):
            raise Stale("the state has changed since the plan was made")
        failure = self._failure("apply", told.text, ended.code) if ended.code else None
        return Applied(ended.signals, failure)

    def unlock(self, lock: str) -> None:
        """Remove a lock by its ID, whoever holds it.

        Raises:
            Stale: by now it is another lock.
        """
        backend = self._backend()
        if backend.address:
            backend.release(lock)
        else:
            self._run("force-unlock", "-force", "-no-color", "--", lock)

    # How ---------------------------------------------------------------------------------------------------

    def _words(self, *words: str) -> tuple[str, ...]:
        return (self.binary, f"-chdir={self.root}", *words)

    def _run(self, *words: str) -> bytes:
        try:
            return process.run(*self._words(*words), environment=self._env)
        except CommandFailed as failed:
            raise self._failure(words[0], failed.stderr or failed.message, failed.returncode) from None

    def _stream(
        self,
        told: Told,
        *words: str,
        through: Callable[[], stream.Filter] | None = None,
    ) -> stream.Ended:
        """Run it with its output passed on; the exit code is the caller's to judge."""
        make = through or self.through
        sys.stdout.flush()
        return stream.run(
            self._words(*words),
            environment=self._env,
            through=lambda: _Kept(make(), told),
            stdout=self.stdout,
            grace=self.grace,
        )

    def _failure(self, command: str, told: str, code: int) -> PipelineError:
        """What Terraform said, as the error a person or a template can act on."""
        failure = said.failure(command, self.root.name, told, code)
        if isinstance(failure, Locked) and not failure.lock.who:
            return Locked(failure.head, self._backend().completed(failure.lock))
        return failure

    def _backend(self) -> HttpBackend:
        """The server of the state, where `init` wrote which one it is."""
        file = self.root / self._env.get("TF_DATA_DIR", ".terraform") / "terraform.tfstate"
        return HttpBackend.read(file, self._env)
