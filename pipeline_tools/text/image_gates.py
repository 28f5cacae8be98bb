"""Rules that an image must keep before it is published."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.text import dockerfiles
from pipeline_tools.text.dockerfiles import Stage
from pipeline_tools.text.recipes import Described, Layer

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]i?)?B?")
_UNITS = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$")
_ROOT = re.compile(r"(|root|0+)(:.*)?")
SHOWN = 3
"""How many layers a refusal names."""


@dataclass(frozen=True)
class Gates:
    """The rules that are asked for; `max_size` in bytes unpacked, `labels` a value by key, None for any value."""

    max_size: int | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    non_root: bool = False
    base_pinned: bool = False


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile by its name, read with what decides its stages."""

    name: str
    text: str
    build_args: Mapping[str, str]
    target: str | None

    @property
    def stages(self) -> tuple[Stage, ...]:
        return dockerfiles.stages(self.text, self.build_args)

    def last(self, word: str, within: str = "") -> str:
        """Where the last instruction `word` that has `within` stands in the stage built: `Dockerfile:7`, or ""."""
        stage = dockerfiles.chosen(self.stages, self.target)
        lines = [
            item.line
            for item in (stage.instructions if stage else ())
            if item.word == word and within in item.rest
        ]
        return f"{self.name}:{lines[-1]}" if lines else ""


def size(text: str) -> int:
    """Bytes of `500MB`, `1.5GiB` or `1000`.

    Raises:
        PipelineError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise PipelineError(f"--max-size takes bytes, not {text!r}", hint="such as 500MB or 1.5GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def required_labels(words: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """`KEY` and `KEY=VALUE` words.

    Raises:
        PipelineError: a word without a key.
    """
    rows = [word.partition("=") for word in words]
    if any(not key for key, _, _ in rows):
        raise PipelineError("--require-label takes KEY or KEY=VALUE", hint="quote it as one word")
    return tuple((key, value if equals else None) for key, equals, value in rows)


def of_dockerfile(gates: Gates, dockerfile: Dockerfile) -> Iterator[Refused]:
    """What the Dockerfile alone breaks, known before anything is built."""
    if gates.base_pinned:
        for pulled in dockerfiles.pulled(dockerfiles.up_to(dockerfile.stages, dockerfile.target)):
            if not _PINNED.search(pulled.image):
                yield Refused(
                    f"{dockerfile.name}:{pulled.line}: {pulled.image} is not pinned by digest (--base-pinned)",
                    hint=f"{pulled.image.partition('@')[0]}@sha256:…; skopeo inspect tells it",
                )


def of_image(gates: Gates, image: Described, dockerfile: Dockerfile) -> Iterator[Refused]:
    """What the built image breaks."""
    if gates.max_size is not None and image.size > gates.max_size:
        yield _too_large(gates.max_size, image)
    yield from (
        found for key, value in gates.labels if (found := _label(key, value, image.labels, dockerfile))
    )
    if gates.non_root and _ROOT.fullmatch(image.user):
        where = dockerfile.last("USER")
        said = f"{where}: USER {image.user}" if where else f"{dockerfile.name}: no USER in the stage built"
        yield Refused(f"{said}: the image runs as root (--require-non-root)", hint="USER 65534:65534")


def _too_large(most: int, image: Described) -> Refused:
    largest = sorted(image.layers, key=lambda layer: layer.size, reverse=True)[:SHOWN]
    return Refused(
        f"the image has {image.size} bytes unpacked, more than {most} (--max-size); "
        f"its largest layers: {'; '.join(map(_named, largest))}",
        hint="build in one stage and copy the result into a smaller one, or .dockerignore what is not needed",
    )


def _named(layer: Layer) -> str:
    return f"{layer.size} by {' '.join(layer.made_by.split())[:80] or 'an unnamed instruction'}"


def _label(key: str, value: str | None, labels: Mapping[str, str], dockerfile: Dockerfile) -> Refused | None:
    if key in labels and value in {None, labels[key]}:
        return None
    where = dockerfile.last("LABEL", within=key) or dockerfile.name
    is_there = f"is {labels[key]!r}, not {value!r}" if key in labels else "is missing"
    return Refused(f"{where}: label {key} {is_there} (--require-label)", hint=f"LABEL {key}={value or '…'}")
