"""Findings about a Terraform root and the local modules it calls, from its text alone.

Source: developer.hashicorp.com/terraform/language ("Backend block", "Dependency Lock File", "Module Sources",
"Provisioners", "Provider Requirements"). Nothing is run for them, so they come before anything of a stranger's is.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline_tools.text import constraints, hcl
from pipeline_tools.text.findings import Finding, Rule, Severity
from pipeline_tools.text.terraform_files import LOCK_FILE, Folder, ModuleCall, Requirement, Source
from pipeline_tools.text.terraform_roots import local

_MINOR, _MAJOR, _CRITICAL, _BLOCKER = Severity

RULES = {
    "unreadable": Rule(_BLOCKER, "the file cannot be read", "mend it: what is not read is not checked"),
    "no-backend": Rule(
        _CRITICAL, "without a backend the state dies with the job", 'write backend "http" {} (or gcs, s3)'
    ),
    "local-backend": Rule(
        _CRITICAL, "a local backend's state dies with the job", 'write backend "http" {} (or gcs, s3)'
    ),
    "cloud-backend": Rule(
        _CRITICAL,
        "runs in HCP Terraform are not what was reviewed here",
        'write backend "http" {} (or gcs, s3)',
    ),
    "backend-credentials": Rule(
        _CRITICAL, "a backend's settings end up in the plan file", "give credentials in the environment"
    ),
    "provider-credentials": Rule(
        _CRITICAL, "a secret stands in the file", "give credentials in the environment"
    ),
    "lock-missing": Rule(
        _MAJOR,
        "without a lock file each run may take other providers",
        "run terraform providers lock for each platform, and commit .terraform.lock.hcl",
    ),
    "lock-incomplete": Rule(_MAJOR, "the lock file lacks a provider", "run terraform providers lock"),
    "lock-hashes": Rule(
        _MAJOR, "the lock file has no h1 or zh hash of a provider", "run terraform providers lock"
    ),
    "lock-version": Rule(
        _MAJOR, "the locked version is not one that the root asks for", "run terraform init -upgrade"
    ),
    "lock-unused": Rule(
        _MINOR, "the lock file has a provider that nothing needs", "run terraform providers lock"
    ),
    "provider-not-allowed": Rule(
        _BLOCKER,
        "a provider is a program, and this one is not on the list",
        "take it out, or --allow-provider",
    ),
    "provider-version": Rule(_MAJOR, "no version is asked for", "add a version to required_providers"),
    "required-version": Rule(
        _MAJOR, "any version of Terraform may run this", "set required_version in the terraform block"
    ),
    "external-data": Rule(
        _CRITICAL, "a program of the checkout runs with the job's credentials", "compute it outside Terraform"
    ),
    "http-data": Rule(
        _MAJOR, "a plan sends a request anywhere, with anything in it", "give the value as a variable"
    ),
    "provisioner": Rule(
        _CRITICAL,
        "a command runs with the job's credentials, and no plan shows it",
        "let the pipeline or the image do it",
    ),
    "provider-exec": Rule(
        _CRITICAL, "the provider starts a program with the job's credentials", "give it a token in a variable"
    ),
    "module-unpinned": Rule(_MAJOR, "the module's version is open", "ask for one version exactly"),
    "module-branch": Rule(
        _MAJOR, "what the ref points to changes", "write ?ref= with a commit or a version tag"
    ),
    "module-remote": Rule(_CRITICAL, "nothing says what comes from there", "keep the module in the checkout"),
    "module-outside": Rule(_BLOCKER, "the module is outside the checkout", "keep it below the checkout"),
    "module-unreadable": Rule(_BLOCKER, "the source is no plain text", "write the source as it is"),
    "bundled-code": Rule(
        _BLOCKER, "Terraform or tflint would run programs from here", "take it out of the repository"
    ),
    "ignore-reason": Rule(
        _MINOR, "an exception without a reason", "write # pipeline-tools:ignore RULE and why"
    ),
}
"""Every rule by its name, which is public."""

ALLOWED = frozenset(
    {
        "scaleway/scaleway", "hashicorp/google", "hashicorp/google-beta", "hashicorp/kubernetes", "hashicorp/helm",
        "hashicorp/random", "hashicorp/time", "hashicorp/tls",
    }
)  # fmt: skip
"""Providers that any root may use unless `--allow-provider` says otherwise: the platform's own, and those that only
compute. `null`, `external`, `local` and `http` are left out: they run, read or send what a plan does not show."""

BARS = frozenset(
    {
        "unreadable", "provider-not-allowed", "module-unpinned", "module-branch", "module-remote", "module-outside",
        "module-unreadable", "bundled-code",
    }
)  # fmt: skip
"""Rules whose breach keeps `terraform init` from being run: it would fetch or start what a stranger names."""

_DEFAULT_HOSTS = ("registry.terraform.io", "registry.opentofu.org")
_BUILT_IN = "terraform.io/builtin/terraform"
_SECRETS = frozenset(
    {
        "access_key", "secret_key", "password", "token", "credentials", "access_token", "client_secret", "client_key",
        "private_key", "sas_token", "encryption_key", "sse_customer_key", "conn_str", "client_private_key_pem",
        "api_key", "shared_credentials_file", "oidc_token", "secret",
    }
)  # fmt: skip
_VERSION_TAG = re.compile(r"v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?|[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class _Root:
    """What the rules look at: the root's folder, all folders with its modules, and the providers allowed."""

    folder: Folder
    folders: tuple[Folder, ...]
    allowed: frozenset[str]

    @property
    def needed(self) -> Mapping[str, tuple[tuple[str, int], Requirement | None]]:
        """Every provider that the folders need, by its address: where first, and the first that asks for a version."""
        found: dict[str, tuple[tuple[str, int], Requirement | None]] = {}
        for place, address, asked in (item for folder in self.folders for item in _needs(folder)):
            first, versioned = found.get(address, (place, None))
            found[address] = (first, versioned or (asked if asked and asked.version else None))
        return found

    @property
    def start(self) -> tuple[str, int]:
        """Where a finding about the root as a whole stands: its `terraform` block, or its first file."""
        blocks = [
            (path, block.line)
            for path, whole in self.folder.parsed.items()
            for block in whole.of("terraform")
        ]
        return min(blocks, default=(min(self.folder.files, default=f"{self.folder.path}/main.tf"), 1))


def check(
    folders: Sequence[Folder], *, allowed: frozenset[str] = ALLOWED, bundled: Iterable[str] = ()
) -> tuple[Finding, ...]:
    """The findings about a root, by file and line, exceptions left out.

    `folders` are the root's and its modules' (`terraform_roots.folders`), `allowed` the addresses of providers,
    `bundled` paths of the checkout that Terraform or tflint would take programs from.

    An exception is a comment on the line or the line above: `# pipeline-tools:ignore RULE reason`.
    """
    found = every(folders, allowed=allowed, bundled=bundled)
    return tuple(sorted(set(_excepted(found, folders))))


def every(
    folders: Sequence[Folder], *, allowed: frozenset[str] = ALLOWED, bundled: Iterable[str] = ()
) -> tuple[Finding, ...]:
    """All findings, exceptions too: who writes the configuration writes those as well."""
    root = _Root(folders[0], tuple(folders), frozenset(map(address, allowed)) | {_BUILT_IN})
    found = [finding for rule in _CHECKS for finding in rule(root)]
    found += [_finding("bundled-code", path, 1, path) for path in bundled]
    return tuple(sorted(set(found)))


def bars(folders: Sequence[Folder], findings: Iterable[Finding]) -> tuple[str, ...]:
    """Why `terraform init` must not be run on a root with these findings (of `every`); empty where it may.

    Besides what the rules find, no module is fetched at all: what it calls in turn nobody has read.
    """
    found = [f"{finding.path}:{finding.line}: {finding.rule}" for finding in findings if finding.rule in BARS]
    calls = [call for folder in folders for call in folder.modules if call.kind is not Source.LOCAL]
    found += [f"{call.path}:{call.line}: module {call.name} is not in the checkout" for call in calls]
    return tuple(dict.fromkeys(found))


def unread(folders: Sequence[Folder], modules: Iterable[tuple[str, int]]) -> tuple[Finding, ...]:
    """The places, of those where Terraform reads a call of a module, at which nothing was read here.

    There are texts that two parsers understand differently (a heredoc's end within its `${`): what Terraform sees
    there was never checked. In JSON a place may be another part of the block, and there is no such text.
    """
    known = {(call.path, call.opens) for folder in folders for call in folder.modules}
    in_json = {path for path, _ in known if path.endswith(".json")}
    places = sorted(place for place in modules if place not in known and place[0] not in in_json)
    return tuple(_finding("unreadable", *place, "a module that only terraform reads") for place in places)


def refused(providers: Iterable[str], allowed: frozenset[str] = ALLOWED) -> tuple[str, ...]:
    """The addresses that are not on the list, in their short form."""
    listed = frozenset(map(address, allowed)) | {_BUILT_IN}
    return tuple(sorted({address(name) for name in providers} - listed))


def address(source: str) -> str:
    """A provider's address in one form: lower case, without the host that may be left out."""
    host, _, rest = source.lower().partition("/")
    return rest if host in _DEFAULT_HOSTS else source.lower()


# Rules ---------------------------------------------------------------------------------------------------------


def _finding(name: str, path: str, line: int, what: str = "") -> Finding:
    rule = RULES[name]
    said = f"{_shown(what)}: {rule.message}" if what else rule.message
    return Finding(path, line, name, rule.severity, said, rule.cure)


def _shown(text: str) -> str:
    """A text of the configuration as one short line."""
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return line if len(line) <= 100 else f"{line[:99]}…"  # noqa: PLR2004 (fits a line of a terminal)


def _unreadable(root: _Root) -> Iterator[Finding]:
    for folder in root.folders:
        for problem in folder.problems:
            yield _finding("unreadable", problem.path, problem.line, problem.problem)


def _backend(root: _Root) -> Iterator[Finding]:
    if not root.folder.backends:
        yield _finding("no-backend", *root.start)
    for backend in root.folder.backends:
        if backend.type in {"local", "cloud"}:
            yield _finding(f"{backend.type}-backend", backend.path, backend.line)
        for name in _SECRETS & backend.settings.keys():
            yield _finding("backend-credentials", backend.path, backend.settings[name], name)


def _versions(root: _Root) -> Iterator[Finding]:
    if not root.folder.required_version:
        yield _finding("required-version", *root.start)
    for name, (place, asked) in root.needed.items():
        if asked is None and name != _BUILT_IN:
            yield _finding("provider-version", *place, name)


def _providers(root: _Root) -> Iterator[Finding]:
    for folder in root.folders:
        for place, name, _ in _needs(folder):
            if name not in root.allowed:
                yield _finding("provider-not-allowed", *place, name)
        for provider in folder.providers:
            for name, setting in provider.settings.items():
                if name in _SECRETS and setting.value and not isinstance(setting.value, hcl.Expression):
                    yield _finding("provider-credentials", provider.path, setting.line, name)
            if provider.runs is not None:
                yield _finding("provider-exec", provider.path, provider.runs, provider.name)


def _needs(folder: Folder) -> Iterator[tuple[tuple[str, int], str, Requirement | None]]:
    """Each provider a folder needs: where it says so, its address, and what it asks for.

    A name without an entry in `required_providers` stands for `hashicorp/NAME` ("Implicit Provider Requirements").
    """
    asked = {requirement.name: requirement for requirement in folder.requirements}
    for requirement in folder.requirements:
        yield (requirement.path, requirement.line), _meant(requirement.name, requirement), requirement
    places = [(item.name, item.path, item.line) for item in folder.providers]
    places += [(use.provider, use.path, use.line) for use in folder.uses if use.block != "provisioner"]
    for name, path, line in places:
        if name and name not in asked:
            yield (path, line), _meant(name, None), None


def _meant(name: str, asked: Requirement | None) -> str:
    if asked and asked.source:
        parts = asked.source.count("/")
        return address(asked.source if parts else f"hashicorp/{asked.source}")
    return _BUILT_IN if name == "terraform" else address(f"hashicorp/{name}")


def _lock(root: _Root) -> Iterator[Finding]:
    needed = {name: item for name, item in root.needed.items() if name != _BUILT_IN}
    if not root.folder.has_lock_file:
        if needed:
            yield _finding("lock-missing", *min(place for place, _ in needed.values()))
        return
    if any(problem.path.endswith(LOCK_FILE) for problem in root.folder.problems):
        return
    locked = {address(entry.address): entry for entry in root.folder.locked}
    for name, (place, _) in needed.items():
        if name not in locked:
            yield _finding("lock-incomplete", *place, name)
    for name, entry in locked.items():
        if name not in root.allowed:
            yield _finding("provider-not-allowed", entry.path, entry.line, name)
        if not any(item.startswith(("h1:", "zh:")) for item in entry.hashes):
            yield _finding("lock-hashes", entry.path, entry.line, name)
        if name not in needed:
            yield _finding("lock-unused", entry.path, entry.line, name)
    yield from _lock_versions(root)


def _lock_versions(root: _Root) -> Iterator[Finding]:
    asked = [
        (_meant(item.name, item), item.version) for folder in root.folders for item in folder.requirements
    ]
    for entry in root.folder.locked:
        wanted = [constraint for name, constraint in asked if name == address(entry.address) and constraint]
        for constraint in wanted:
            if not constraints.satisfies(entry.version, constraint):
                said = f"{entry.address} {entry.version}, not {constraint}"
                yield _finding("lock-version", entry.path, entry.line, said)


def _uses(root: _Root) -> Iterator[Finding]:
    rules = {
        ("data", "external"): "external-data",
        ("action", "local_command"): "external-data",
        ("data", "local_command"): "external-data",
        ("data", "http"): "http-data",
        ("ephemeral", "http"): "http-data",
        ("provisioner", "local-exec"): "provisioner",
        ("provisioner", "remote-exec"): "provisioner",
    }
    for use in (use for folder in root.folders for use in folder.uses):
        if (use.block, use.type) in rules:
            yield _finding(rules[use.block, use.type], use.path, use.line, use.type)


def _modules(root: _Root) -> Iterator[Finding]:
    for folder in root.folders:
        for call in folder.modules:
            name = _broken(folder.path, call)
            if name:
                yield _finding(name, call.path, call.line, call.source or call.name)


def _broken(folder: str, call: ModuleCall) -> str | None:
    """The rule that a call breaks."""
    if call.kind is Source.LOCAL:
        return None if local(folder, call) is not None else "module-outside"
    if call.kind is Source.REGISTRY:
        return None if constraints.is_exact(call.version) else "module-unpinned"
    if call.kind is Source.GIT:
        ref = re.search(r"[?&]ref=([^&]*)", call.source)
        return None if ref and _VERSION_TAG.fullmatch(ref[1]) else "module-branch"
    return "module-remote" if call.kind is Source.REMOTE else "module-unreadable"


_CHECKS: tuple[Callable[[_Root], Iterator[Finding]], ...] = (
    _unreadable, _backend, _versions, _providers, _lock, _uses, _modules,
)  # fmt: skip


# Exceptions ----------------------------------------------------------------------------------------------------

_EXCEPTION = re.compile(r"(?:#|//)\s*pipeline-tools:ignore[ \t]+([a-z0-9-]+)[ \t]*(.*)")


def _excepted(findings: Iterable[Finding], folders: Sequence[Folder]) -> Iterator[Finding]:
    """The findings without those that a comment excepts; a comment without a reason excepts nothing."""
    texts = {path: text.split("\n") for folder in folders for path, text in folder.files.items()}
    for finding in findings:
        reason = _reason(finding, texts.get(finding.path, []))
        if not reason:
            yield finding
        if reason == "":
            yield _finding("ignore-reason", finding.path, finding.line, finding.rule)


def _reason(finding: Finding, lines: Sequence[str]) -> str | None:
    """The reason of the exception; empty where it has none, None where there is no exception."""
    here = lines[finding.line - 1 : finding.line]
    above = [line for line in lines[max(finding.line - 2, 0) : finding.line - 1] if _is_comment(line)]
    for line in (*here, *above):
        found = _EXCEPTION.search(line)
        if found and found[1] == finding.rule:
            return found[2].strip()
    return None


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", "//"))
