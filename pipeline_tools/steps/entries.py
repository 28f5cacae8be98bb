"""What a bump does to the entries of one file: decided entry by entry, from text to text.

Not a step but the bump's decision, which plan makes again on every replay.
"""

from dataclasses import dataclass

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.shape import Status
from pipeline_tools.text import kustomization, versions
from pipeline_tools.text.kustomization import Image

UNKNOWN_DIGEST = "sha256:" + "0" * 64
"""Stands for the digest in the plan of a release that is not built yet; never written."""


@dataclass(frozen=True)
class Change:
    """One entry of one file: what it says at the tip, and what it will say. `status` as of a plan."""

    path: str
    name: str
    before: str
    after: str
    status: Status


def edited(
    path: str,
    text: str,
    images: tuple[Image, ...],
    *,
    allow_downgrade: bool,
    order: str = versions.SEMVER,
) -> tuple[str, tuple[Change, ...]]:
    """`text` with `images` written into it, as far as none is older than what is there, and what that changes.

    Raises:
        PipelineError: an entry that is missing or cannot be edited safely (see `kustomization.set_image`).
    """
    changes = []
    for image in images:
        change = _change(text, path, image, None if allow_downgrade else order)
        changes.append(change)
        if change.status is Status.PLANNED:
            text = kustomization.set_image(text, image, path)
    return text, tuple(changes)


def is_written(path: str, text: str, images: tuple[Image, ...]) -> bool:
    """Whether the file says all of `images` already."""
    return all(kustomization.set_image(text, image, path) == text for image in images)


def _change(text: str, path: str, image: Image, order: str | None) -> Change:
    edited = kustomization.set_image(text, image, path)
    before, after = _entry(text, path, image.name), _entry(edited, path, image.name)
    if edited != text and after.digest and image.digest is None:
        raise PipelineError(
            f"{path}: image {image.name!r} is pinned to a digest, which {image} does not give",
            hint="write REPOSITORY:TAG@DIGEST: kustomize would go on deploying the old digest",
        )
    is_older = order is not None and versions.precedes(after.tag or "", before.tag or "", order)
    status = Status.UNCHANGED if edited == text else Status.SUPERSEDED if is_older else Status.PLANNED
    return Change(path, image.name, str(before), shown(str(after)), status)


def _entry(text: str, path: str, name: str) -> Image:
    return next(entry for entry in kustomization.images(text, path) if entry.name == name)


def shown(text: str) -> str:
    """`text` for a person: a digest that is not known yet is no digest."""
    return text.replace(UNKNOWN_DIGEST, "(known after build)")
