"""The bind step: Vault has the mounts, auth configuration, policies, roles and keys of a binding, and they say the same.

Only what the binding names is read and written; of an object only the fields that the binding means.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.steps.shape import Reading, Status, Step
from pipeline_tools.text import vault_objects
from pipeline_tools.text.binding import TOKEN_SECRET
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.vault_objects import Kind, Managed

if TYPE_CHECKING:
    from pipeline_tools.adapters.vault import Vault
    from pipeline_tools.text.binding import Binding

PRIVATE = {"private": True}
REVIEWER_FIELD = "token_reviewer_jwt"


@dataclass(frozen=True)
class Request:
    """Bind these environments. `reviewer_token` is what Vault outside the cluster reviews tokens with; empty: keep it.

    `is_strict`: what cannot be read is an error in a dry run too, since a check must not take it for missing.
    """

    binding: "Binding"
    environments: tuple[str, ...]
    reviewer_token: Secret = field(default_factory=lambda: Secret(""))
    is_strict: bool = False


@dataclass(frozen=True)
class Ports:
    """`vault` is logged in as someone who may write all of it."""

    vault: "Vault"


@dataclass(frozen=True)
class Facts:
    """The fields that each object has now, by its path; None where there is no such object."""

    current: Mapping[str, Mapping[str, Any] | None]
    unread: tuple[PipelineError, ...] = ()


@dataclass(frozen=True)
class Change:
    """An object to write. `before` is None where it is new; `fields` are those that differ."""

    kind: Kind
    path: str
    fields: tuple[str, ...]
    before: Mapping[str, Any] | None = field(metadata=PRIVATE)
    after: Mapping[str, Any] = field(metadata=PRIVATE)
    secret: Secret = field(default_factory=lambda: Secret(""), metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        yield f"{'+' if self.before is None else '~'} {self.kind} {self.path}"
        for name in self.fields:
            before = None if self.before is None else self.before.get(name)
            if name == REVIEWER_FIELD:
                yield f"    {name}: given anew (Vault does not tell the one it has)"
            elif name == "policy":
                yield from _difference(str(before or ""), str(self.after[name]))
            elif self.before is None:
                yield f"    {name}: {self.after[name]}"
            else:
                yield f"    {name}: {before} → {self.after[name]}"


def _difference(before: str, after: str) -> Iterator[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    yield from (f"    {line}" for number, line in enumerate(lines) if number > 1)


@dataclass(frozen=True)
class Outcome:
    """The API paths that were written, in this order."""

    status: Status
    written: tuple[str, ...]

    def summary(self) -> str:
        word = "would be written" if self.status is Status.PLANNED else "written"
        return f"{len(self.written)} objects {word}"


@dataclass(frozen=True)
class Plan:
    """The objects that differ, in the order in which they are written."""

    status: Status
    changes: tuple[Change, ...]
    unread: tuple[PipelineError, ...] = ()

    def lines(self) -> Iterator[str]:
        for change in self.changes:
            yield from change.lines()

    def foreseen(self) -> Outcome:
        return Outcome(self.status, tuple(change.path for change in self.changes))


# Facts ---------------------------------------------------------------------------------------------------------


def wanted(request: Request) -> tuple[Managed, ...]:
    """Everything that the environments need, what must be there first before the rest."""
    found = [*vault_objects.shared(request.binding)]
    for name in request.environments:
        found += vault_objects.of(request.binding, request.binding.environment(name))
    unique = {managed.path: managed for managed in found}
    return tuple(sorted(unique.values(), key=lambda managed: list(Kind).index(managed.kind)))


def facts(request: Request, ports: Ports) -> Facts:
    read = Reading()
    mounts = {part: read({}, _mounts, ports.vault, f"sys/{part}") for part in ("mounts", "auth")}
    current: dict[str, Mapping[str, Any] | None] = {}
    for managed in wanted(request):
        if managed.kind in {Kind.SECRETS_MOUNT, Kind.AUTH_MOUNT}:
            part, _, mount = managed.path.removeprefix("sys/").partition("/")
            current[managed.path] = mounts[part].get(f"{mount}/")
        else:
            current[managed.path] = read(None, _fields, ports.vault, managed, mounts)
    if request.is_strict and read.unread:
        raise read.unread[0]
    return Facts(current, read.unread)


def _mounts(vault: "Vault", path: str) -> dict[str, Any]:
    """The mounts by their path, which ends with a slash (vault/api-docs/system/mounts, "List mounted secrets engines")."""
    answer = vault.read(path) or {}
    found = answer.get("data") or answer
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def _fields(
    vault: "Vault", managed: Managed, mounts: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    if not _is_mounted(managed.path, mounts):
        return None
    answer = vault.read(managed.path)
    return (answer or {}).get("data") or None


def _is_mounted(path: str, mounts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether something answers at a path; Vault has another answer for no engine than for no object."""
    if path.startswith("sys/"):
        return True
    part, name = ("auth", path.removeprefix("auth/")) if path.startswith("auth/") else ("mounts", path)
    return any(name.startswith(mount) for mount in mounts[part])


# Plan ----------------------------------------------------------------------------------------------------------


def plan(request: Request, facts: Facts) -> Plan:
    """Write what differs.

    Raises:
        Refused: a mount or key of that name is something else, which cannot be changed.
        PipelineError: the reviewer's token is needed and was not given.
    """
    changes = [_change(request, managed, facts.current[managed.path]) for managed in wanted(request)]
    real = tuple(change for change in changes if change is not None)
    return Plan(Status.PLANNED if real else Status.UNCHANGED, real, facts.unread)


def _change(request: Request, managed: Managed, before: Mapping[str, Any] | None) -> Change | None:
    differing = tuple(
        name
        for name, value in managed.fields.items()
        if before is None or _normal(_meant(managed, before.get(name))) != _normal(value)
    )
    if before is not None and differing:
        _must_be_changeable(managed, before)
    change = Change(managed.kind, managed.path, differing, before, managed.fields)
    if managed.kind is Kind.AUTH_CONFIG and managed.path.startswith(
        f"auth/{request.binding.vault.kubernetes_mount}/"
    ):
        change = _reviewed(request, change)
    return change if change.fields or before is None else None


def _meant(managed: Managed, value: Any) -> Any:
    """Of a mount's options only those that we mean; Vault adds its own."""
    if managed.kind is Kind.SECRETS_MOUNT and isinstance(value, Mapping):
        return {name: value[name] for name in managed.fields["options"] if name in value}
    return value


def _normal(value: Any) -> Any:
    """A value as it can be compared: Vault trims texts, and sorts some lists."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, (list, tuple)):
        return sorted(str(item).strip() for item in value)
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    return value


_FIXED = frozenset({Kind.SECRETS_MOUNT, Kind.AUTH_MOUNT, Kind.KEY})


def _must_be_changeable(managed: Managed, before: Mapping[str, Any]) -> None:
    if managed.kind in _FIXED:
        there = {name: before.get(name) for name in managed.fields}
        raise Refused(
            f"{managed.path} is there as {there}, and cannot become {dict(managed.fields)}",
            hint="choose another name in the binding, or move what is there",
        )


def _reviewed(request: Request, change: Change) -> Change:
    """The configuration with the reviewer's token: writing it without would take it away."""
    if request.binding.vault.reviewer.kind != TOKEN_SECRET:
        return change
    token = request.reviewer_token
    if token.reveal():
        return replace(change, fields=(*change.fields, REVIEWER_FIELD), secret=token)
    if change.fields:
        raise PipelineError(
            f"{change.path} is written whole, and the reviewer's token was not given",
            hint="give --reviewer-token-file: the token in the secret that runner render made for the reviewer",
        )
    return change


def check(plan: Plan, ports: Ports) -> Plan:  # noqa: ARG001 (the driver's signature; `prove` comes afterwards)
    return plan


# Apply ---------------------------------------------------------------------------------------------------------


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Write each object whole.

    Raises:
        PipelineError: Vault refused one; `done` names those before it.
    """
    written: list[str] = []
    for change in plan.changes:
        secret = {REVIEWER_FIELD: change.secret.reveal()} if change.secret.reveal() else {}
        try:
            ports.vault.write(change.path, **{**change.after, **secret})
        except PipelineError as error:
            error.done = Outcome(Status.FAILED, tuple(written))
            raise
        written.append(change.path)
    return Outcome(Status.DONE, tuple(written))


STEP = Step("bind", facts, plan, check, apply)
