"""`terraform check`: what is wrong with a root, before any credential is fetched and before anything of it runs.

The configuration may be a stranger's: the rules read it first, then terraform itself is asked what it would fetch
(`validate` says so while nothing is installed), and `init` is run only where both name nothing but modules of the
checkout and providers on the list.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.shape import Status
from pipeline_tools.text import terraform_diagnostics as diagnostics
from pipeline_tools.text import terraform_roots, terraform_rules
from pipeline_tools.text.findings import Finding
from pipeline_tools.text.terraform_diagnostics import Ran
from pipeline_tools.text.terraform_files import Folder


class Files(Protocol):
    """The checkout. Links that lead out of it are not followed; a file over the limit of `hcl` is given whole."""

    def configuration(self, folder: str) -> Mapping[str, str]:
        """The texts of a folder's files, and of those in its `tests`, by their paths; empty without such a folder."""
        ...

    def bundled(self, root: str) -> tuple[str, ...]:
        """What git tracks below the root that programs would be taken from.

        Anything in `.terraform`, `terraform.d` or `.tflint.d`; a `.tflint.hcl` or `.tflint.json` with `plugin_dir`.
        """
        ...


class Terraform(Protocol):
    """terraform and tflint, each run in `folder` without any credential.

    Each folder has a `TF_DATA_DIR` of its own, outside the checkout and empty at first; a `TF_CLI_CONFIG_FILE` of ours
    names where providers come from, so that no folder of the checkout counts as a mirror.
    """

    def fmt(self, folder: str) -> Ran:
        """`terraform fmt -check -recursive -list=true -diff -no-color`: 0 as it should be, 3 not, 2 unreadable."""
        ...

    def get(self, folder: str) -> Ran:
        """`terraform get -no-color`: 0, or 1. Called only where all modules are in the checkout."""
        ...

    def init(self, folder: str) -> Ran:
        """`terraform init -backend=false -input=false -lockfile=readonly -no-color`: 0, or 1."""
        ...

    def validate(self, folder: str) -> Ran:
        """`terraform validate -json`: 0 valid, 1 not; the JSON in both."""
        ...

    def tflint(self, folder: str) -> Ran | None:
        """`tflint --format=json`: 0, 1 for its own errors, 2 for issues; None where it is not installed."""
        ...


@dataclass(frozen=True)
class Ports:
    """What the check talks to."""

    files: Files
    terraform: Terraform


@dataclass(frozen=True)
class NotRun:
    """A part of the check that was not made on a root, and why."""

    root: str
    part: str
    reason: str

    def __str__(self) -> str:
        return f"{self.root}: {self.part} not run: {self.reason}"


@dataclass(frozen=True)
class Report:
    """The findings in some roots, by file and line, and what could not be looked at.

    Its status is PENDING where something was not run, so that silence is not taken for consent.
    """

    roots: tuple[str, ...]
    findings: tuple[Finding, ...]
    not_run: tuple[NotRun, ...] = ()

    @property
    def status(self) -> Status:
        return Status.PENDING if self.not_run else Status.UNCHANGED

    def summary(self) -> str:
        said = f"{len(self.findings)} findings in {', '.join(self.roots)}"
        return said + (f"; not run: {len(self.not_run)} parts, see the warnings" if self.not_run else "")


def joined(reports: Iterable[Report]) -> Report:
    """One report of several; what two roots find in the same module stands there once."""
    every = tuple(reports)
    return Report(
        tuple(root for report in every for root in report.roots),
        tuple(sorted({finding for report in every for finding in report.findings})),
        tuple(item for report in every for item in report.not_run),
    )


def check(root: str, ports: Ports, *, allowed: frozenset[str] = terraform_rules.ALLOWED) -> Report:
    """The findings about one root: the rules, `fmt`, `validate` and `tflint`.

    Raises:
        PipelineError: there is no configuration at `root`; a program prints what it should not (exit 1).
    """
    folders = terraform_roots.folders(root, ports.files.configuration)
    path = folders[0].path
    if not folders[0].files:
        raise PipelineError(f"{root} holds no Terraform files", hint="name the folder of the .tf files")
    bundled = ports.files.bundled(path)
    found = set(terraform_rules.check(folders, allowed=allowed, bundled=bundled))
    barred = terraform_rules.bars(folders, terraform_rules.every(folders, allowed=allowed, bundled=bundled))
    parts: dict[str, Callable[[], Looked]] = {
        "fmt": lambda: _formatted(folders, ports.terraform),
        "validate": lambda: (
            (set(), _because(barred)) if barred else _validated(folders, allowed, ports.terraform)
        ),
        "tflint": lambda: (set(), "") if bundled else _linted(path, ports.terraform),
    }
    missing: list[NotRun] = []
    for part, run in parts.items():
        findings, reason = run()
        found |= findings
        missing += [NotRun(path, part, reason)] if reason else []
    return Report((path,), tuple(sorted(found)), tuple(missing))


Looked: TypeAlias = tuple[set[Finding], str]
"""What a part found, and why it was not run; empty where it was."""


def _because(barred: tuple[str, ...]) -> str:
    more = f" (and {len(barred) - 1} more)" if len(barred) > 1 else ""
    return f"it would fetch or start what the configuration names: {barred[0]}{more}"


def _formatted(folders: Iterable[Folder], terraform: Terraform) -> Looked:
    """Of the root and of modules elsewhere: `fmt -recursive` goes through those below it. It parses, and no more."""
    paths = [folder.path for folder in folders if folder.files]
    tops = [path for path in paths if not any(_is_below(path, other) for other in paths)]
    ran = {top: terraform.fmt(top) for top in tops}
    failed = (diagnostics.reason(item.stderr) for item in ran.values() if item.exit_code not in {0, 3})
    return {finding for top, item in ran.items() for finding in diagnostics.fmt(item.stdout, top)}, next(
        failed, ""
    )


def _is_below(path: str, folder: str) -> bool:
    return path != folder and (folder == "." or path.startswith(f"{folder}/"))


def _validated(folders: Sequence[Folder], allowed: frozenset[str], terraform: Terraform) -> Looked:
    """What `validate` finds, or why it could not be run; each thing is fetched only after terraform has named it."""
    root = folders[0].path
    texts = {folder.path: terraform.validate(folder.path).stdout for folder in folders if folder.files}
    found = set(diagnostics.validate(texts[root], root))
    modules = {place for path, text in texts.items() for place in diagnostics.needs(text, path).modules}
    if unread := terraform_rules.unread(folders, modules):
        return {*found, *unread}, _because(tuple(f"{item.path}:{item.line}" for item in unread))
    if found:
        return found, ""
    if modules and (got := terraform.get(root)).exit_code:
        return set(), diagnostics.reason(got.stderr)
    text = terraform.validate(root).stdout if modules else texts[root]
    providers = diagnostics.needs(text, root).providers
    if refused := terraform_rules.refused(providers, allowed):
        return set(), _because(refused)
    if providers and (ran := terraform.init(root)).exit_code:
        return set(), diagnostics.reason(ran.stderr)
    return _after(root, terraform.validate(root).stdout if providers else text)


def _after(root: str, text: str) -> Looked:
    """What `validate` found when all is installed."""
    lacking = diagnostics.needs(text, root)
    said = "terraform says that modules or providers are not installed" if lacking else ""
    return set(diagnostics.validate(text, root)), said


def _linted(root: str, terraform: Terraform) -> Looked:
    ran = terraform.tflint(root)
    return (set(), "") if ran is None else (set(diagnostics.tflint(ran.stdout, root)), "")
