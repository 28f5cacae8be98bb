"""Who can build: what every builder offers, and the choice among them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text.recipes import Described, Recipe
from pipeline_tools.text.references import Repository

if TYPE_CHECKING:
    from pipeline_tools.adapters.registry import Registry


class Image(Protocol):
    """An image that was built and is nowhere yet."""

    def described(self) -> tuple[Described, ...]:
        """What it says of itself, once for each platform."""
        ...

    def push(self, place: Repository, tag: str, target: "Registry") -> str:
        """Bring it to the registry `target` as `place`:`tag`; its digest there."""
        ...


class Builder(Protocol):
    """What builds."""

    @property
    def name(self) -> str: ...

    def lacks(self, recipe: Recipe) -> tuple[str, ...]:
        """What of a recipe it cannot do."""
        ...

    def ready(self) -> None:
        """Try it; PipelineError says what it would need here."""
        ...

    def building(
        self, recipe: Recipe, context: Path, file: Path, image: str
    ) -> AbstractContextManager[Image]:
        """Build; the image is there while the block lasts. `image` is its name in messages."""
        ...


def choose(recipe: Recipe, builders: tuple[Builder, ...]) -> tuple[Builder, str]:
    """The first that can do what the recipe asks and is ready, with what the ones before it lack.

    Raises:
        PipelineError: none can; the message has what each would need. Unavailable where one may be ready later.
    """
    failures: dict[str, PipelineError] = {}
    for builder in builders:
        try:
            _able(builder, recipe)
            return builder, "; ".join(f"{name}: {error.message}" for name, error in failures.items())
        except PipelineError as error:
            failures[builder.name] = error
    raise _none(failures)


def _able(builder: Builder, recipe: Recipe) -> None:
    if lacking := builder.lacks(recipe):
        raise PipelineError(
            f"{builder.name} cannot do {', '.join(lacking)}",
            hint="see --builder: buildah and buildkit can do more",
        )
    builder.ready()


def _none(failures: Mapping[str, PipelineError]) -> PipelineError:
    """One error of several: it is worth retrying, or a matter of rights, where that of one builder is."""
    if len(failures) == 1:
        return next(iter(failures.values()))
    kinds = [type(error) for error in failures.values()]
    kind = next((kind for kind in (Unavailable, Denied) if kind in kinds), PipelineError)
    lines = [f"  {name}: {error.message}; {error.hint}" for name, error in failures.items()]
    return kind(
        "\n".join(["nothing here can build:", *lines]), hint="any one of these is enough; see --builder"
    )
