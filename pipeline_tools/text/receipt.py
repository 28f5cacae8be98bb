"""The receipt of a release, `release.json`: what each step did, as the next step's request.

Schema 1: an object with `schema` and one member a step that has run (`tag`, `build`, `push`, `bump`, `trigger`),
each as the class below. Documented in docs/reference/receipt.md.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import references

SCHEMA = 1
LARGEST = 1024 * 1024
"""Bytes that a receipt may have; ours have a thousand."""


@dataclass(frozen=True)
class Tagged:
    """The release: git tag `name`, the `version` it names, and the `commit` it is on."""

    name: str
    version: str
    commit: str


@dataclass(frozen=True)
class Built:
    """The candidate: `repository`:`tag` at `digest` (None in a dry run: known after build)."""

    repository: str
    tag: str
    digest: str | None


@dataclass(frozen=True)
class Pushed:
    """The published image: `repository`:`tag` at `digest`, and the moving tags that went along."""

    repository: str
    tag: str
    digest: str | None
    moved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bumped:
    """The env repository's `commit` on `branch` that is, or contains, the bump (None: known after bump).

    While the bump is `pending`, `commit` is the tip of the merge request with the number `merge_request`, at `url`.
    """

    project: str
    branch: str
    commit: str | None
    superseded: bool = False
    pending: bool = False
    merge_request: int | None = None
    url: str | None = None


@dataclass(frozen=True)
class Triggered:
    """The env repository's pipeline, its `commit` (sha) and where a person sees it."""

    project: str
    pipeline: int | None
    url: str | None
    commit: str | None


@dataclass(frozen=True)
class Receipt:
    """One release, growing step by step."""

    tag: Tagged | None = None
    build: Built | None = None
    push: Pushed | None = None
    bump: Bumped | None = None
    trigger: Triggered | None = None


_SECTIONS = {"tag": Tagged, "build": Built, "push": Pushed, "bump": Bumped, "trigger": Triggered}
_GRAMMAR = {"commit": references.COMMIT, "digest": references.DIGEST, "repository": references.REPOSITORY}
_KINDS: dict[str, type] = {
    "pipeline": int,
    "superseded": bool,
    "pending": bool,
    "merge_request": int,
    "moved": tuple,
}

T = TypeVar("T")


def dumps(receipt: Receipt) -> str:
    """The receipt as JSON text."""
    sections = {name: value for name, value in asdict(receipt).items() if value is not None}
    if receipt.bump and not receipt.bump.pending:  # what schema 1 has had from the beginning, and no more
        sections["bump"] = {
            name: sections["bump"][name] for name in ("project", "branch", "commit", "superseded")
        }
    return json.dumps({"schema": SCHEMA, **sections}, indent=2) + "\n"


def loads(content: bytes, path: str) -> Receipt:
    """Read a receipt.

    Raises:
        PipelineError: not JSON, another schema, an unknown or missing member, a value against its grammar.
    """
    try:
        data = json.loads(content[: LARGEST + 1])
        if data["schema"] != SCHEMA:
            raise PipelineError(
                f"{path} has receipt schema {data['schema']!r}, this version reads {SCHEMA}",
                hint="use one version of the toolkit in all jobs of a pipeline",
            )
        return Receipt(**{name: _section(_SECTIONS[name], data[name]) for name in data if name != "schema"})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PipelineError(
            f"{path} is not a release receipt: {type(error).__name__}: {str(error)[:80]}",
            hint="it is the artifact release.json of the job before; remove it to start afresh",
        ) from None


def _section(cls: type[T], data: Any) -> Any:
    if not isinstance(data, dict):
        raise TypeError(f"{cls.__name__} is no object")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for field in fields(cls):  # type: ignore[arg-type]
        _check(field.name, values.get(field.name))
    return cls(**values)


def _check(name: str, value: object) -> None:
    kind, grammar = _KINDS.get(name, str), _GRAMMAR.get(name)
    if value is None:
        return
    if not isinstance(value, kind) or (grammar and not grammar.fullmatch(str(value))):
        raise ValueError(f"{name} is {value!r:.60}")
