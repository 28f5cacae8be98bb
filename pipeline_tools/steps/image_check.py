"""Whether the registry has what is to be written. Not a step, but one of the bump's checks."""

from typing import TYPE_CHECKING

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import manifests, references
from pipeline_tools.text.kustomization import Image

if TYPE_CHECKING:
    from pipeline_tools.adapters.registry import Registries, Registry


def check(image: Image, platforms: tuple[str, ...], registries: "Registries") -> None:
    """See that the image's tag and digest are one in the registry, and that it runs on all `platforms` (os/arch[/variant]).

    Raises:
        PipelineError: the tag is not there or stands for another digest, or the platform is missing;
        Denied, Unavailable: the registry cannot be asked.
    """
    place = references.repository(image.repository)
    registry = registries.at(place)
    found = registry.head(place.name, image.tag or image.digest or "")
    if found is None:
        raise PipelineError(f"{image} is not in the registry", hint="push it first; is its name right?")
    if image.digest and found != image.digest:
        raise PipelineError(
            f"{image.repository}:{image.tag} is {found} in the registry, not {image.digest}",
            hint="the tag was moved after the push: give the digest that you mean",
        )
    for platform in platforms:
        _must_have(registry, place.name, found, platform)


def _must_have(registry: "Registry", repository: str, digest: str, platform: str) -> None:
    known = _platforms(registry, repository, digest)
    if not any(f"{name}/".startswith(f"{platform}/") for name in known):
        raise PipelineError(
            f"{registry.host}/{repository}@{digest} has no {platform} (it has: {', '.join(known)})",
            hint="build for that platform, or see --platform",
        )


def _platforms(registry: "Registry", repository: str, digest: str) -> tuple[str, ...]:
    """What an index lists, or what an image's own config says."""
    manifest = registry.get(repository, digest)
    if manifest.is_index:
        return manifest.platforms()
    config = manifest.config()
    return (manifests.platform(registry.config(repository, config)),) if config else ()
