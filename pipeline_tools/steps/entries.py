"""What a bump does to the entries of one file: decided entry by entry, from text to text.

Not a step but the bump's decision, which plan makes again on every replay.
"""

from dataclasses import dataclass

from pipeline_tools.errors import PipelineError
from pipeline_tools.steps.shape import Status
from pipeline_tools.text import kustomization, versions
from pipeline_tools.text.kustomization import Image, Pin

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


@dataclass(frozen=True)
class Edit:
    """What is to be written: `images`, pinned to tag, digest or both.

    `adds`: an entry that is not there is added. Only a rendering tells a new entry from a misspelt one, so without
    it none is. `order` is that of versions (see `versions.precedes`).
    """

    images: tuple[Image, ...]
    pin: Pin = Pin.BOTH
    adds: bool = True
    allow_downgrade: bool = False
    order: str = versions.SEMVER

    def is_older(self, tag: str | None, other: str | None) -> bool:
        """Whether `tag` must not be written over `other`."""
        return not self.allow_downgrade and versions.precedes(tag or "", other or "", self.order)


def edited(path: str, text: str, edit: Edit) -> tuple[str, tuple[Change, ...]]:
    """`text` with the images written into it, as far as none is older than what is there, and what that changes.

    Raises:
        PipelineError: an entry that is missing or cannot be edited safely (see `kustomization.set_image`).
    """
    changes = []
    for image in edit.images:
        after, change = _changed(text, path, image, edit)
        changes.append(change)
        text = after if change.status is Status.PLANNED else text
    return text, tuple(changes)


def _changed(text: str, path: str, image: Image, edit: Edit) -> tuple[str, Change]:
    before = _entry(text, path, image.name)
    if before is None and not edit.adds:
        names = ", ".join(entry.name for entry in kustomization.images(text, path)) or "none"
        raise PipelineError(
            f"{path}: images: has no entry {image.name!r} (it has: {names})",
            hint="add the entry once by hand, or leave --no-render out: then it is added and proved",
        )
    edited = kustomization.set_image(text, image.pinned(edit.pin), path)
    after = _entry(edited, path, image.name) or image
    if edited != text and after.digest and image.digest is None:
        raise PipelineError(
            f"{path}: image {image.name!r} is pinned to a digest, which {image} does not give",
            hint="write REPOSITORY:TAG@DIGEST, or give --pin tag: kustomize would go on deploying the old digest",
        )
    is_older = before is not None and edit.is_older(image.tag, before.tag)
    status = Status.UNCHANGED if edited == text else Status.SUPERSEDED if is_older else Status.PLANNED
    return edited, Change(path, image.name, str(before or "(no entry)"), shown(str(after)), status)


def _entry(text: str, path: str, name: str) -> Image | None:
    return next((entry for entry in kustomization.images(text, path) if entry.name == name), None)


def shown(text: str) -> str:
    """`text` for a person: a digest that is not known yet is no digest."""
    return text.replace(UNKNOWN_DIGEST, "(known after build)")
