"""What a builder is asked for, and what it made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.masks import Secret

_ENV = "env:"


@dataclass(frozen=True)
class BuildSecret:
    """A secret that a RUN may mount by its `name`: the content of the file `path`, or of the `variable`.

    `value` is that content, for the mask; a builder is given the source.
    """

    name: str
    path: str = ""
    variable: str = ""
    value: Secret = field(default_factory=lambda: Secret(""), repr=False)


@dataclass(frozen=True)
class Recipe:
    """How to build, whatever builds.

    `epoch` is the commit's time in seconds (reproducible-builds.org, "SOURCE_DATE_EPOCH"), `cache` the repository of
    the layer cache, `attest` whether SBOM and provenance are wanted along.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    platforms: tuple[str, ...] = ()
    secrets: tuple[BuildSecret, ...] = ()
    cache: str | None = None
    epoch: int = 0
    attest: bool = False

    @property
    def arguments(self) -> Mapping[str, str]:
        """The build arguments, with the commit's time for a Dockerfile that says `ARG SOURCE_DATE_EPOCH`."""
        return {"SOURCE_DATE_EPOCH": str(self.epoch), **self.build_args}


@dataclass(frozen=True)
class Layer:
    """A layer: its bytes unpacked, and the instruction that made it."""

    size: int
    made_by: str


@dataclass(frozen=True)
class Described:
    """What an image says of itself (OCI image spec 1.1, config.md): its user, its labels, its layers, its platform."""

    user: str
    labels: Mapping[str, str]
    layers: tuple[Layer, ...]
    platform: str = ""

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)


def source(name: str, word: str) -> BuildSecret:
    """The secret that `--build-secret NAME=WORD` names, without its value: a file, or `env:VARIABLE`.

    Raises:
        PipelineError: a character that builders take for a separator.
    """
    if "," in name or "," in word or not word:
        raise PipelineError(
            f"--build-secret {name}: builders take no comma in a name or a path, and nothing for a source",
            hint="--build-secret NAME=FILE, or NAME=env:VARIABLE",
        )
    if word.startswith(_ENV):
        return BuildSecret(name, variable=word.removeprefix(_ENV))
    return BuildSecret(name, path=word)
