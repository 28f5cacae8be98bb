"""What a bump is asked to do: from the command line and the receipt of the steps before. Not a step, but the bump's request."""

import hashlib
import json
from dataclasses import dataclass, replace

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.bump_options import NOBODY, Options
from pipeline_tools.steps.entries import UNKNOWN_DIGEST, Edit
from pipeline_tools.text import references
from pipeline_tools.text.kustomization import Image, Pin
from pipeline_tools.text.receipt import Pushed, Receipt


@dataclass(frozen=True)
class Proposal:
    """A merge request rather than a push, with these labels and reviewers, asked to merge by itself or not.

    `source` is the project that it comes from.
    """

    source: str | None
    labels: tuple[str, ...]
    reviewers: tuple[str, ...]
    merges_itself: bool


@dataclass(frozen=True)
class Request:
    """Make `edit` in `overlays` (folders, or globs of them) of `project`, the env repository.

    `trailers` go under the commit's message; `Bump-Id` among them names this bump for good. `override` is a reason to
    overrule the env repository's rules. `check_image`: ask the registry first, for the `platforms` too.
    """

    project: str
    branch: str | None
    overlays: tuple[str, ...]
    edit: Edit
    trailers: tuple[tuple[str, str], ...]
    author: tuple[str, str]
    committer: tuple[str, str]
    override: str | None
    render: bool
    dependents: bool
    check_image: bool
    platforms: tuple[str, ...]
    push_options: tuple[str, ...]
    proposal: Proposal | None

    @property
    def title(self) -> str:
        """The first line of the commit's message."""
        return "Bump " + ", ".join(f"{image.name} {image.tag or image.digest}" for image in self.edit.images)

    def message(self, overruled: tuple[str, ...]) -> str:
        """The commit's message; why it overrules rules of the env repository, if it does."""
        override = [("Override", self.override)] if overruled and self.override else []
        trailers = "\n".join(f"{key}: {value}" for key, value in (*self.trailers, *override))
        return f"{self.title}\n\n{trailers}\n"


def request(options: Options, receipt: Receipt) -> Request:
    """What to bump: the images given, or the one the receipt says was published.

    Raises:
        PipelineError: no overlay, no image, nothing to write, or a value against its grammar.
    """
    named(options)
    pin = Pin(options.pin)
    images = tuple(_wanted(word, receipt.push, pin) for word in options.image)
    if len({image.name for image in images}) < len(images):
        raise PipelineError("one image is named twice", hint="give each --image once")
    folders = tuple(dict.fromkeys(references.folder(overlay) for overlay in options.overlay))
    return Request(
        project=options.env_project,
        branch=references.branch(options.env_branch) if options.env_branch else None,
        overlays=folders,
        edit=Edit(images, pin, options.render, options.allow_downgrade, options.order),
        trailers=_trailers(options, receipt, folders, images),
        author=_who(options.author_name, options.author_email),
        committer=_who(options.committer_name, options.committer_email),
        override=_one_line(options.override or "").strip() or None,
        render=options.render,
        dependents=options.dependents,
        check_image=options.check_image,
        platforms=options.platform,
        push_options=("ci.skip",) if options.skip_ci else (),
        proposal=_proposal(options) if options.via_merge_request else None,
    )


def _proposal(options: Options) -> Proposal:
    return Proposal(options.project, options.label, options.reviewer, options.auto_merge)


def named(options: Options) -> None:
    """See that the options name something to bump; a release asks this before it builds anything.

    Raises:
        PipelineError: no overlay or no image.
    """
    if not options.overlay or not options.image:
        missing = "--overlay" if not options.overlay else "--image"
        raise PipelineError(
            f"{missing} is missing", hint="name what to bump, as in --overlay overlays/dev --image app"
        )


def _wanted(word: str, pushed: Pushed | None, pin: Pin) -> Image:
    name, equals, text = word.partition("=")
    if not equals:
        if pushed is None:
            raise PipelineError(
                f"nothing is known to write for image {name!r}",
                hint=f"run push first (its receipt says it), or give --image {name}=REPOSITORY:TAG@DIGEST",
            )
        return Image(name, pushed.repository, pushed.tag, pushed.digest or UNKNOWN_DIGEST)
    # kustomize's own word for "the name stays": `kustomize edit set image --help`.
    found = references.reference(name + text[1:] if text.startswith(("*:", "*@")) else text)
    if not found.tag and pin is not Pin.DIGEST:
        raise PipelineError(
            f"--image {word}: a tag is missing", hint="write REPOSITORY:TAG or REPOSITORY:TAG@DIGEST"
        )
    image = Image(name, None if text.startswith("*") else found.name, found.tag, found.digest)
    image.pinned(pin)  # what it lacks shows now
    return image


def _trailers(
    options: Options, receipt: Receipt, folders: tuple[str, ...], images: tuple[Image, ...]
) -> tuple[tuple[str, str], ...]:
    """git-interpret-trailers(1): the facts about a bump that outlive the pipeline."""
    tag = receipt.tag
    facts = (
        ("Source-Project", options.project),
        ("Source-Tag", tag and tag.name),
        ("Source-Commit", tag and tag.commit),
        ("Source-Pipeline", options.pipeline_url),
        *(("Image", str(replace(image, digest=None))) for image in images),
        *(("Image-Digest", image.digest) for image in images),
    )
    what = [options.project, tag and tag.commit, folders, [str(image) for image in images]]
    identity = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return (("Bump-Id", identity), *((key, _one_line(value)) for key, value in facts if value))


def _who(name: str, email: str) -> tuple[str, str]:
    return _signed(name, "pipeline-tools"), _signed(email, NOBODY)


def _signed(value: str, default: str) -> str:
    """`value` as git takes it in a signature (git-commit-tree(1)): without angle brackets and control characters."""
    return _one_line(value.translate({ord("<"): None, ord(">"): None})).strip(" .,:;\"'") or default


def _one_line(value: str) -> str:
    """A trailer's value must not begin another line, so that nobody forges a trailer."""
    return "".join(character for character in value if character.isprintable())
