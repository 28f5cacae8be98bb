"""How one root is planned: what its content is, where its state stands, and what would be done.

Not a step but what the Terraform steps share, as all share `shape`.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import passport, terraform_plan
from pipeline_tools.text.packages import Place
from pipeline_tools.text.passport import Made, Mode, Passport, State, Tool
from pipeline_tools.text.state_backend import StateBackend, slug
from pipeline_tools.text.terraform_plan import Summary

if TYPE_CHECKING:
    from pipeline_tools.adapters.checkout import Checkout
    from pipeline_tools.adapters.gitlab_records import Records
    from pipeline_tools.adapters.terraform import Terraform
    from pipeline_tools.text.masks import Mask

log = logging.getLogger(__name__)

LOCK_FILE = ".terraform.lock.hcl"
_LOADED = (".tf", ".tf.json", ".tofu", ".tofu.json", ".tfvars", ".tfvars.json", LOCK_FILE)
"""Files that Terraform reads by itself (language docs, "Files and Directories", "Variable Definitions Files")."""


@dataclass(frozen=True)
class Root:
    """One root of the checkout: its path, its state, the variable files given to it, and the key of its passports."""

    path: str
    state: StateBackend
    var_files: tuple[str, ...] = ()
    key: bytes = b""

    @property
    def slug(self) -> str:
        return slug(self.path)


@dataclass(frozen=True)
class Workshop:
    """What a root is planned with. `modules` gives the local modules of a root, `scratch` is a private folder."""

    terraform: "Terraform"
    checkout: "Checkout"
    modules: Callable[[str], tuple[str, ...]]
    scratch: Path
    mask: "Mask"
    plans: str


@dataclass(frozen=True)
class Content:
    """What a root is made of: ids of its folders and variable files, its lock file's digest, what is not committed."""

    trees: Mapping[str, str]
    lock_file: str
    differing: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """Where a root stands once it is initialised: the tool, the providers and the state."""

    tool: Tool
    providers: Mapping[str, str]
    state: State


@dataclass(frozen=True)
class Planned:
    """A plan file at `path`, and what is in it. `is_leaking`: Terraform's own text of it held a secret."""

    passport: Passport
    summary: Summary
    path: Path
    is_leaking: bool


def content(root: Root, shop: Workshop) -> Content:
    """What the checkout has for a root.

    Raises:
        PipelineError: the commit has no such folder or file.
    """
    folders = (root.path, *shop.modules(root.path))
    trees = {path: _object(path, shop) for path in (*folders, *root.var_files)}
    differing = [path for folder in folders for path in _differing(folder, shop)]
    lock = shop.checkout.inside(f"{root.path}/{LOCK_FILE}")
    digest = f"sha256:{hashlib.sha256(lock.read_bytes()).hexdigest()}" if lock.is_file() else ""
    return Content(trees, digest, tuple(sorted({*differing, *_changed(root.var_files, shop)})))


def _object(path: str, shop: Workshop) -> str:
    found = shop.checkout.object_id(path)
    if found is None:
        raise PipelineError(f"{path} is not in the commit", hint="commit it: a plan is bound to git's trees")
    return found


def _differing(folder: str, shop: Workshop) -> list[str]:
    """Files that a plan may depend on and the commit does not have like this."""
    return [
        path
        for code, path in shop.checkout.differing(folder)
        if not path.startswith(f"{shop.plans}/") and (code != "!!" or path.endswith(_LOADED))
    ]


def _changed(files: tuple[str, ...], shop: Workshop) -> list[str]:
    return [path for file in files for _, path in shop.checkout.differing(file)]


def prepare(root: Root, shop: Workshop) -> Standing:
    """Initialise the root, and look where its state stands."""
    terraform = shop.terraform
    log.info("%s: terraform init", root.path)
    terraform.init(root.state.words)
    version = terraform.version()
    lineage, serial = terraform.pull()
    state = State(root.state.type or "configured", root.state.name, lineage, serial)
    return Standing(Tool(version.name, version.version), version.providers, state)


def plan(root: Root, made: Made, shop: Workshop, *, mode: Mode = "normal") -> Planned:
    """Make a plan file in the scratch folder, without the state's lock.

    Raises:
        PipelineError: Terraform cannot plan.
    """
    there, standing = content(root, shop), prepare(root, shop)
    path = shop.scratch / f"{root.slug}.tfplan"
    before = shop.mask.hits
    shop.terraform.plan(path, _words(root, shop, mode))
    is_leaking = shop.mask.hits > before
    summary = summarise(path, root, shop)
    passport = Passport(
        root=root.path,
        mode=mode,
        trees=dict(there.trees),
        is_dirty=bool(there.differing),
        lock_file=there.lock_file,
        state=standing.state,
        tool=standing.tool,
        providers=dict(standing.providers),
        plan=digest(path),
        changes=summary.changes,
        outputs=summary.outputs,
        counts=summary.counts,
        has_unkeyed=summary.has_unkeyed,
        made=made,
        drift=summary.drift,
    )
    return Planned(passport, summary, path, is_leaking)


def _words(root: Root, shop: Workshop, mode: Mode) -> list[str]:
    files = [f"-var-file={shop.checkout.inside(path)}" for path in root.var_files]
    return [*(["-destroy"] if mode == "destroy" else []), *files]


def summarise(path: Path, root: Root, shop: Workshop) -> Summary:
    """What a plan file holds, streamed from `terraform show -json`."""
    with shop.terraform.show(path) as stream:
        return terraform_plan.read(stream, root.key)


def kept(place: Place, root: str, registry: "Records") -> Passport | None:
    """The passport at a place of the package registry, if it is of this root. Whose it is, its seal says.

    Raises:
        PipelineError: there is something else, or too much of it.
    """
    content = registry.package_file(place.name, place.version, place.file, most=passport.LARGEST)
    found = passport.loads(content, f"the passport in package {place.name}") if content else None
    return found if found and found.root == root else None


def digest(path: Path) -> str:
    """A file's SHA-256, as `sha256:…`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
