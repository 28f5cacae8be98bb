"""The passport of a Terraform plan, `passport.json`: what was planned, and on what, so that another pipeline can compare.

Schema 1: an object with `schema` and the members of `Passport`, each as the classes below and those of
`terraform_plan`. It holds no sensitive value, only their HMACs (`terraform_values.Hiding`).
"""

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import records
from pipeline_tools.text.printing import printable
from pipeline_tools.text.terraform_plan import Change, Counts, Output

SCHEMA = 1
Mode = Literal["normal", "destroy"]
"""What the plan is for: to make things as configured, or to remove them all."""
LARGEST = 64 * 1024 * 1024
"""Bytes that a passport may have; a summary keeps 12 MB of attributes at the most (`terraform_plan.MOST`)."""
_PURPOSE = b"pipeline-tools passport seal\n"
"""Before what is sealed: the same key hashes sensitive values, which are JSON, and none of them may pass for a seal."""


class Verdict(StrEnum):
    """How a fresh plan stands to the reviewed one."""

    AS_REVIEWED = "as reviewed"
    DIFFERS = "differs"
    NOT_REVIEWED = "not reviewed"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class State:
    """The state that the plan was made on: `lineage` names it for its whole life, `serial` its version."""

    backend: str
    name: str
    lineage: str
    serial: int


@dataclass(frozen=True)
class Tool:
    """`terraform` or `tofu`."""

    name: str
    version: str


@dataclass(frozen=True)
class Made:
    """Where the plan was made: addresses of pipeline and job, and what they ran on."""

    pipeline: str
    job: str
    commit: str
    ref: str
    merge_request: int | None = None


@dataclass(frozen=True)
class Review:
    """What came of the comparison with the passport (its id) that was reviewed on a merge request."""

    verdict: Verdict
    passport: str = ""
    merge_request: int | None = None


@dataclass(frozen=True)
class Passport:
    """A plan.

    `trees` has the git object id of each folder or file that the configuration is made of, `lock_file` the digest of
    `.terraform.lock.hcl` ("" without one), `providers` a version for each source address, `plan` the digest of the
    plan file. `has_unkeyed`: sensitive values that change are in it without a hash.
    """

    root: str
    mode: Mode
    trees: dict[str, str]
    is_dirty: bool
    lock_file: str
    state: State
    tool: Tool
    providers: dict[str, str]
    plan: str
    changes: tuple[Change, ...]
    outputs: tuple[Output, ...]
    counts: Counts
    has_unkeyed: bool
    made: Made
    drift: tuple[Change, ...] = ()
    review: Review | None = None
    seal: str = ""

    @cached_property
    def id(self) -> str:
        """16 hex digits over what will be done and to what: two plans that mean the same have one id."""
        meaning = {
            "root": self.root,
            "mode": self.mode,
            "trees": self.trees,
            "lock_file": self.lock_file,
            "lineage": self.state.lineage,
            "tool": asdict(self.tool),
            "providers": self.providers,
            # Terraform sorts them by address; whoever made the list, the meaning is the same.
            "changes": sorted((asdict(change) for change in self.changes), key=_canonical),
            # What they are made of is no part of what they will be.
            "outputs": sorted(
                (asdict(replace(output, references=())) for output in self.outputs), key=_canonical
            ),
        }
        return hashlib.sha256(_canonical(meaning).encode()).hexdigest()[:16]

    def sealed(self, key: bytes) -> "Passport":
        """This passport with the seal of `key` over all of it; without a key it has none."""
        return replace(self, seal=self._seal(key) if key else "")

    def verify(self, key: bytes) -> bool:
        """Whether whoever holds `key` has made this passport, all of it. Without a key nothing can be said: False."""
        return bool(key) and hmac.compare_digest(self.seal.encode(), self._seal(key).encode())

    def _seal(self, key: bytes) -> str:
        content = _canonical(asdict(replace(self, seal="")))
        return f"hmac-sha256:{hmac.new(key, _PURPOSE + content.encode(), hashlib.sha256).hexdigest()}"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def dumps(passport: Passport) -> str:
    """The passport as JSON text."""
    # Not indented: that is ten times slower, and one of 5 000 changes is read by programs anyway.
    return json.dumps({"schema": SCHEMA, **asdict(passport)}) + "\n"


def loads(content: bytes, path: str) -> Passport:
    """Read a passport; whether it is ours, `Passport.verify` says.

    Raises:
        PipelineError: too large, not JSON, another schema, an unknown or missing member, one of another type.
    """
    try:
        data = _object(content)
        schema = data.pop("schema", None)
        read = records.record(Passport, data) if schema == SCHEMA else None
    except (ValueError, RecursionError) as error:
        raise PipelineError(
            f"{path} is not a plan's passport: {printable(str(error), 100)}",
            hint="it is an artifact of the plan job; plan again",
        ) from None
    if read is None:
        raise PipelineError(
            f"{path} has passport schema {schema!r:.20}, this version reads {SCHEMA}",
            hint="use one version of the toolkit in all pipelines of the project, and plan again",
        )
    return read


def _object(content: bytes) -> dict[str, Any]:
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("no object")  # noqa: TRY004 (one error for all that a file may hold)
    return data
