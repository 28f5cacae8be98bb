"""What a build is asked for."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import image_gates, pairs, recipes, references
from pipeline_tools.text.image_gates import Gates
from pipeline_tools.text.printing import printable
from pipeline_tools.text.receipt import Receipt, Tagged
from pipeline_tools.text.recipes import BuildSecret, Recipe
from pipeline_tools.text.references import Repository

LABEL = "org.opencontainers.image."
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?")
"""os/architecture[/variant] (OCI image spec 1.1, image-index.md, `platform`)."""


@dataclass(frozen=True)
class Options:
    """What the command line says about the build."""

    repository: str | None = None
    candidate_repository: str | None = None
    context: str = "."
    file: str | None = None
    git_context: bool = False
    target: str | None = None
    platform: tuple[str, ...] = ()
    build_arg: tuple[str, ...] = ()
    build_secret: tuple[str, ...] = ()
    cache: str | None = None
    attest: bool = False
    reuse: bool = True
    max_size: str | None = None
    require_label: tuple[str, ...] = ()
    require_non_root: bool = False
    base_pinned: bool = False
    project_url: str | None = None
    project_title: str | None = None
    project_description: str | None = None
    licenses: str | None = None


@dataclass(frozen=True)
class Request:
    """A candidate in `repository` of the commit that `tagged` names; `recipe` is how to build as far as options say it."""

    repository: Repository
    tagged: Tagged
    context: str
    file: str
    git_context: bool
    reuse: bool
    recipe: Recipe
    gates: Gates


def request(options: Options, receipt: Receipt) -> Request:
    """What to build: the commit that the receipt's tag is on.

    Raises:
        PipelineError: no tag yet, no repository, or an option against its grammar.
    """
    if receipt.tag is None:
        raise PipelineError(
            "which release? there is no version tag", hint="give --tag, or tag the commit first"
        )
    place = options.candidate_repository or options.repository
    if not place:
        raise PipelineError("which repository?", hint="give --repository, or set PT_REPOSITORY")
    # `web`, `web/` and `./web` are one context, and so one candidate.
    context = PurePosixPath(options.context)
    return Request(
        repository=references.repository(place),
        tagged=receipt.tag,
        context=str(context),
        file=str(PurePosixPath(options.file) if options.file else context / "Dockerfile"),
        git_context=options.git_context,
        reuse=options.reuse,
        recipe=_recipe(options, receipt.tag),
        gates=_gates(options),
    )


def _recipe(options: Options, tagged: Tagged) -> Recipe:
    return Recipe(
        labels=_labels(options, tagged),
        build_args=dict(sorted(pairs.parse("--build-arg", options.build_arg).items())),
        target=options.target,
        platforms=_platforms(options.platform),
        secrets=secrets(options.build_secret),
        cache=str(references.repository(options.cache)) if options.cache else None,
        attest=options.attest,
    )


def _platforms(words: tuple[str, ...]) -> tuple[str, ...]:
    """Each platform once; several may stand in one word with commas between, as docker's own option has them."""
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if not _PLATFORM.fullmatch(name):
            raise PipelineError(
                f"--platform {printable(name)!s} is no platform",
                hint="write it like linux/amd64 or linux/arm/v7",
            )
    return tuple(dict.fromkeys(names))


def secrets(words: tuple[str, ...]) -> tuple[BuildSecret, ...]:
    """Where the secrets that `--build-secret` names come from.

    Raises:
        PipelineError: a word against its grammar.
    """
    return tuple(recipes.source(*item) for item in pairs.parse("--build-secret", words).items())


def _gates(options: Options) -> Gates:
    return Gates(
        max_size=image_gates.size(options.max_size) if options.max_size else None,
        labels=image_gates.required_labels(options.require_label),
        non_root=options.require_non_root,
        base_pinned=options.base_pinned,
    )


def _labels(options: Options, tagged: Tagged) -> dict[str, str]:
    """The labels that need no checkout (OCI image spec 1.1, annotations.md); an empty one says nothing and is left out."""
    known = {
        "title": options.project_title,
        "description": options.project_description,
        "url": options.project_url,
        "source": options.project_url,
        "version": tagged.version,
        "revision": tagged.commit,
        "licenses": options.licenses,
    }
    return {LABEL + key: value for key, value in known.items() if value}


def candidate_tag(request: Request, dockerfile: bytes) -> str:
    """`sha-<commit>-<inputs>`: the same commit and build inputs have the same candidate, whoever builds it.

    The commit in full: with a SHA-256 commit it has 77 of an OCI tag's 128 characters.
    """
    inputs = {
        "dockerfile": hashlib.sha256(dockerfile).hexdigest(),
        "context": request.context,
        "build_args": dict(request.recipe.build_args),
        "target": request.recipe.target,
        "platforms": sorted(request.recipe.platforms),
        # A checkout may have files that the commit has not: its candidate is no other's.
        **({"git_context": True} if request.git_context else {}),
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return f"sha-{request.tagged.commit}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"
