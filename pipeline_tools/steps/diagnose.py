"""What an identity may do in Vault, and what is wrong with that; no secret's value is read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.steps.shape import Status

DAY = 86_400
NOBODY = "pipeline-tools-doctor"
"""A name that no policy names: who may read it may read everything beside it."""
MORE = frozenset({"create", "update", "patch", "delete", "sudo", "root"})


class Mounted(Protocol):
    """A secrets engine."""

    @property
    def path(self) -> str: ...

    @property
    def version(self) -> int: ...

    def api(self, path: str, part: str) -> str: ...


class Client(Protocol):
    """Vault, logged in (`adapters.vault.Vault`)."""

    def lookup(self) -> dict[str, Any]: ...

    def mount(self, path: str) -> Mounted: ...

    def capabilities(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]]: ...

    def read(self, path: str) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class Finding:
    """Something to mend, and how."""

    rule: str
    message: str
    cure: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}; {self.cure}"


@dataclass(frozen=True)
class Report:
    """What one identity has. `ttl` in seconds, None for ever; `unread` is what could not be asked."""

    identity: str
    policies: tuple[str, ...]
    ttl: int | None
    kind: str
    capabilities: Mapping[str, tuple[str, ...]]
    findings: tuple[Finding, ...]
    unread: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The answer to "what may this job do in Vault?"."""

    reports: tuple[Report, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for report in self.reports for finding in report.findings)

    @property
    def status(self) -> Status:
        return Status.UNCHANGED

    def lines(self) -> Iterator[str]:
        for report in self.reports:
            ends = "never ends" if report.ttl is None else f"ends in {report.ttl} s"
            yield f"{report.identity}: policies {', '.join(report.policies)}; {report.kind} token, {ends}"
            yield from (f"  {path}: {', '.join(may)}" for path, may in report.capabilities.items())
            yield from (f"  not read: {text}" for text in report.unread)
            yield from (f"  {finding}" for finding in report.findings)

    def summary(self) -> str:
        return f"{len(self.findings) or 'no'} findings"


def diagnose(client: Client, identity: str, paths: Sequence[str], transit_key: str = "") -> Report:
    """Look at the token, at each path that is needed, and at the transit key.

    Raises:
        Denied: the identity cannot even log in or look itself up.
    """
    found, unread = client.lookup(), list[str]()
    policies = (*(found.get("policies") or ()), *(found.get("identity_policies") or ()))
    ttl = int(found["ttl"]) if found.get("expire_time") else None
    findings = list(_token(found, policies, ttl))
    capabilities: dict[str, tuple[str, ...]] = {}
    for path in paths:
        try:
            mount = client.mount(path)
        except Denied as error:
            findings.append(Finding("unreachable", error.message, error.hint))
            continue
        may, problems = _path(client, mount, path)
        capabilities |= may
        findings += problems
        findings += _age(client, mount, path, unread)
    if transit_key:
        may, problems = _key(client, transit_key)
        capabilities |= may
        findings += problems
    return Report(
        identity, policies, ttl, str(found.get("type", "")), capabilities, tuple(findings), tuple(unread)
    )


def _token(found: Mapping[str, Any], policies: Sequence[str], ttl: int | None) -> Iterator[Finding]:
    """Without token_ttl on its role a token lives for the mount's default: 32 days."""
    if ttl is None:
        yield Finding("no-ttl", "the token never ends", "use a login whose role has token_ttl")
    elif int(found.get("creation_ttl") or 0) > DAY:
        days = int(found["creation_ttl"]) // DAY
        yield Finding(
            "long-ttl", f"the token lives {days} days", "set token_ttl and token_max_ttl of its role"
        )
    if "root" in policies:
        yield Finding("root", "the token has the root policy", "use a role with a policy for its paths")
    if found.get("type") == "batch":
        yield Finding("batch", "a batch token cannot be revoked", "set token_type=service on its role")
    meta = found.get("meta") or {}
    if found.get("num_uses"):
        yield Finding(
            "num-uses",
            f"the token is good for {found['num_uses']} requests",
            f"set token_num_uses=0 on role {meta.get('role', '')}",
        )


def _path(client: Client, mount: Mounted, path: str) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    needed, beside = mount.api(path, "data"), mount.api(f"{mount.path}{NOBODY}", "data")
    may = client.capabilities([needed, beside])
    findings = []
    if not {"read", "root"} & set(may[needed]):
        findings.append(
            Finding("cannot-read", f"{needed}: {', '.join(may[needed])}", "a policy must grant read there")
        )
    if MORE & set(may[needed]):
        findings.append(Finding("may-write", f"{needed}: {', '.join(may[needed])}", "grant read alone"))
    if {"read", "root"} & set(may[beside]):
        findings.append(
            Finding("wildcard", f"the policy reaches all of {mount.path}", "name the paths that are needed")
        )
    return {needed: may[needed]}, findings


def _key(client: Client, key: str) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    mount, _, name = key.rpartition("/")
    needed, beside = f"{mount}/decrypt/{name}", f"{mount}/decrypt/{NOBODY}"
    may = client.capabilities([needed, beside])
    findings = []
    if not {"update", "root"} & set(may[needed]):
        findings.append(
            Finding(
                "cannot-decrypt", f"{needed}: {', '.join(may[needed])}", "a policy must grant update there"
            )
        )
    if {"update", "root"} & set(may[beside]):
        findings.append(Finding("wildcard", f"the policy decrypts with every key of {mount}", "name the key"))
    return {needed: may[needed]}, findings


def _age(client: Client, mount: Mounted, path: str, unread: list[str]) -> Iterator[Finding]:
    """An old key, by the metadata that whoever wrote it keeps: `rotate_by` (a date) or `max_age_days`."""
    if mount.version != 2:  # noqa: PLR2004 (the KV engine that keeps metadata)
        return
    where = mount.api(path, "metadata")
    try:
        data = (client.read(where) or {}).get("data") or {}
    except PipelineError:
        unread.append(f"{where} (age of the key): a policy must grant read there")
        return
    custom, now = data.get("custom_metadata") or {}, datetime.now(UTC)
    written = _moment(str(data.get("updated_time", "")))
    rotate_by = _moment(str(custom.get("rotate_by", "")))
    if rotate_by and rotate_by < now:
        yield Finding("old-key", f"{path} was to be rotated by {custom['rotate_by']}", "rotate it")
    days = str(custom.get("max_age_days", ""))
    if days.isdigit() and written and written + timedelta(days=int(days)) < now:
        yield Finding("old-key", f"{path} is of {written:%Y-%m-%d}, older than {days} days", "rotate it")


def _moment(text: str) -> datetime | None:
    """A time of Vault (RFC 3339, with nanoseconds) or a date."""
    try:
        found = datetime.fromisoformat(text[:19])
    except ValueError:
        return None
    return found.replace(tzinfo=UTC)
