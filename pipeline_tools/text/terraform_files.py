"""What the configuration of one folder says: backend, versions, providers, modules, data sources, lock file.

Source: developer.hashicorp.com/terraform/language (blocks "terraform", "provider", "module"; "Dependency Lock File";
"Tests"). Values stand as they are written; nothing is evaluated. `terraform init` reads test files too, and fetches
what they name, so they are read here as well.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from pipeline_tools.text import hcl
from pipeline_tools.text.hcl import Block, Expression, Malformed

LOCK_FILE = ".terraform.lock.hcl"
MOST_FILES = 300
"""Configuration files of one folder."""
MOST_CHARACTERS = 2 * 1024 * 1024
"""Characters of one folder's files together, and of a root's with its modules."""

_SUFFIXES = (".tf", ".tf.json", ".tofu", ".tofu.json", ".tftest.hcl", ".tftest.json", ".tofutest.hcl")


def is_configuration(name: str) -> bool:
    """Whether Terraform or OpenTofu reads a file of this name, in a folder or in its `tests`.

    Editors' back-ups are not read ("Files and Directories").
    """
    base = name.rpartition("/")[2]
    if base.startswith((".", "#")) or base.endswith("~"):
        return base == LOCK_FILE
    return base.endswith(_SUFFIXES)


class Source(StrEnum):
    """Where a module comes from ("Module Sources")."""

    LOCAL = "local"
    REGISTRY = "registry"
    GIT = "git"
    REMOTE = "remote"
    """Everything else: archives over HTTP, buckets, Mercurial, folders by an absolute path."""
    UNREADABLE = "unreadable"
    """Not written as a plain text."""


@dataclass(frozen=True)
class Backend:
    """A `backend` block, or a `cloud` block under that name, and the lines of its settings."""

    type: str
    settings: Mapping[str, int]
    path: str
    line: int


@dataclass(frozen=True)
class Requirement:
    """An entry of `required_providers`: the local name, the `source` and the `version` constraint, where given."""

    name: str
    source: str | None
    version: str | None
    path: str
    line: int


@dataclass(frozen=True)
class Provider:
    """A `provider` block: its name, and its settings by name. `runs` is the line of a program that it starts."""

    name: str
    settings: Mapping[str, hcl.Attribute]
    runs: int | None
    path: str
    line: int


@dataclass(frozen=True)
class ModuleCall:
    """A `module` block: where the module comes from, and the version asked for (registries only).

    `line` is the source's, `opens` the block's.
    """

    name: str
    source: str
    version: str | None
    kind: Source
    path: str
    line: int
    opens: int


@dataclass(frozen=True)
class Use:
    """A `data`, `resource`, `ephemeral`, `action` or `provisioner` block, with the provider it names."""

    block: str
    type: str
    provider: str
    path: str
    line: int


@dataclass(frozen=True)
class Locked:
    """An entry of the lock file: a provider's address, the version chosen, and its hashes as `scheme:value`."""

    address: str
    version: str
    constraints: str
    hashes: tuple[str, ...]
    path: str
    line: int


@dataclass(frozen=True)
class Folder:
    """One folder's configuration; what could not be read is in `problems`."""

    path: str
    files: Mapping[str, str]
    parsed: Mapping[str, Block] = field(default_factory=dict)
    problems: tuple[Malformed, ...] = ()

    @cached_property
    def backends(self) -> tuple[Backend, ...]:
        return tuple(
            Backend(
                block.label(0) or block.type,
                {k: v.line for k, v in block.attributes.items()},
                path,
                block.line,
            )
            for path, settings in self._of("terraform")
            for block in settings.of("backend", "cloud")
        )

    @cached_property
    def required_version(self) -> str | None:
        """The constraint on Terraform itself; several are joined, as Terraform does."""
        found = [block.value("required_version") for _, block in self._of("terraform")]
        return ", ".join(text for item in found if (text := _text(item))) or None

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        return tuple(
            _requirement(name, attribute, path)
            for path, settings in self._of("terraform")
            for block in settings.of("required_providers")
            for name, attribute in block.attributes.items()
        )

    @cached_property
    def providers(self) -> tuple[Provider, ...]:
        return tuple(
            Provider(block.label(0), block.attributes, _program(block), path, block.line)
            for path, block in self._of("provider")
        )

    @cached_property
    def modules(self) -> tuple[ModuleCall, ...]:
        """The calls of the configuration, and those of its tests (`run` blocks)."""
        calls = [(path, block, block.label(0)) for path, block in self._of("module")]
        tested = [(path, run) for path, run in self._of("run")]
        calls += [(path, block, run.label(0)) for path, run in tested for block in run.of("module")]
        return tuple(_call(name, block, path) for path, block, name in calls)

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        kinds = ("data", "resource", "ephemeral", "action", "provisioner")
        return tuple(
            Use(block.type, block.label(0), _provider(block), path, block.line)
            for path, whole in self.parsed.items()
            for block in whole.below()
            if block.type in kinds
        )

    @cached_property
    def locked(self) -> tuple[Locked, ...]:
        path = _join(self.path, LOCK_FILE)
        blocks = self.parsed[path].of("provider") if path in self.parsed else ()
        return tuple(_locked(block, path) for block in blocks)

    @property
    def has_lock_file(self) -> bool:
        return _join(self.path, LOCK_FILE) in self.files

    def _of(self, kind: str) -> Iterator[tuple[str, Block]]:
        lock = _join(self.path, LOCK_FILE)
        return (
            (path, block) for path, whole in self.parsed.items() if path != lock for block in whole.of(kind)
        )


def read(path: str, files: Mapping[str, str]) -> Folder:
    """The configuration of the folder `path`, from the texts of its files by their paths in the checkout.

    Files that are no configuration are passed over; one that cannot be read, or is one too many, is a problem.
    """
    wanted = {name: files[name] for name in sorted(files) if is_configuration(name)}
    parsed: dict[str, Block] = {}
    problems: list[Malformed] = []
    left = MOST_CHARACTERS
    for count, (name, text) in enumerate(wanted.items()):
        left -= len(text)
        if count >= MOST_FILES or left < 0:
            said = f"more than {MOST_FILES} files or {MOST_CHARACTERS} characters"
            problems.append(Malformed(name, 1, said))
            break
        try:
            parsed[name] = hcl.read(text, name)
        except Malformed as problem:
            problems.append(problem)
    return Folder(path, wanted, parsed, tuple(problems))


def source(text: str | None) -> Source:
    """What kind of source a module's address names ("Module Sources"; go-getter's detectors)."""
    if text is None:
        return Source.UNREADABLE
    if text.startswith(("./", "../")) or text in {".", ".."}:
        return Source.LOCAL
    if text.startswith(("git::", "git@", "github.com/", "bitbucket.org/")) or re.search(
        r"^ssh://|\.git($|[/?])", text
    ):
        return Source.GIT
    return Source.REGISTRY if _REGISTRY.fullmatch(text) else Source.REMOTE


_PART = r"[0-9A-Za-z](?:[0-9A-Za-z_-]{0,62}[0-9A-Za-z])?"
_REGISTRY = re.compile(
    rf"(?:[0-9A-Za-z.-]+\.[0-9A-Za-z-]+(?::\d+)?/)?{_PART}/{_PART}/[0-9a-z]{{1,64}}(?://.*)?"
)


def _requirement(name: str, attribute: hcl.Attribute, path: str) -> Requirement:
    """An entry as an object; as a text (Terraform 0.12) it is a version alone."""
    value = attribute.value
    if isinstance(value, dict):
        return Requirement(
            name, _text(value.get("source")), _text(value.get("version")), path, attribute.line
        )
    return Requirement(name, None, _text(value), path, attribute.line)


def _call(name: str, block: Block, path: str) -> ModuleCall:
    written = block.value("source")
    kind = source(_text(written))
    shown = written.text if isinstance(written, Expression) else str(written or "")
    line = block.line_of("source")
    return ModuleCall(name, shown, _text(block.value("version")), kind, path, line, block.line)


def _provider(block: Block) -> str:
    """The local name of the provider: as the block names it, or the first word of its type."""
    named = block.value("provider")
    text = named.text if isinstance(named, Expression) else _text(named) or ""
    return text.strip('"${} ').partition(".")[0] or block.label(0).partition("_")[0]


def _program(block: Block) -> int | None:
    """The line where a provider is told of a program to run: `exec` in Kubernetes' and Helm's."""
    nested = (inner.line for inner in block.below() if inner.type == "exec")
    given = (
        item.line for name, item in block.attributes.items() if name == "exec" or _has(item.value, "exec")
    )
    return next(nested, None) or next(given, None)


def _has(value: Any, name: str) -> bool:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return (isinstance(value, dict) and name in value) or any(_has(item, name) for item in inner)


def _locked(block: Block, path: str) -> Locked:
    hashes = block.value("hashes")
    texts = tuple(item for item in hashes if isinstance(item, str)) if isinstance(hashes, list) else ()
    version, constraints = (_text(block.value(name)) or "" for name in ("version", "constraints"))
    return Locked(block.label(0), version, constraints, texts, path, block.line)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _join(folder: str, name: str) -> str:
    return name if folder in {"", "."} else f"{folder}/{name}"
