"""BuildKit without a daemon of its own: `buildctl-daemonless.sh`, or `buildctl` where BUILDKIT_HOST names a daemon.

Not run here: the binary could not be had. What is tested is what it would be asked, and what is missing where it is
not. Sources: github.com/moby/buildkit, README.md ("Output", "Cache", "--secret") and docs/rootless.md,
docs/build-repro.md, docs/attestations.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline_tools.adapters import pod, process
from pipeline_tools.adapters.layout import Layout
from pipeline_tools.adapters.process import Environment
from pipeline_tools.adapters.scratch import scratch
from pipeline_tools.text import build_errors
from pipeline_tools.text.recipes import BuildSecret, Recipe

log = logging.getLogger(__name__)

LAST_LINES = 12


@dataclass(frozen=True)
class Buildkit:
    """BuildKit's client. `environment` is the whole one of the child; `lent` makes of it one that can ask for logins."""

    environment: Environment
    lent: Callable[[Environment], AbstractContextManager[Environment]] = nullcontext
    name = "buildkit"

    @property
    def program(self) -> str:
        return "buildctl" if self.environment.get("BUILDKIT_HOST") else "buildctl-daemonless.sh"

    def ready(self) -> None:
        """See that it is here, and that a daemon answers or the pod lets one start.

        Raises:
            PipelineError: it is not installed, no daemon answers, or the pod does not allow namespaces.
        """
        process.run("buildctl", "--version", environment=self.environment)
        if self.environment.get("BUILDKIT_HOST"):
            process.run("buildctl", "debug", "workers", environment=self.environment)
        else:
            process.run("rootlesskit", "--version", environment=self.environment)
            pod.unshare(self.environment)

    def lacks(self, recipe: Recipe) -> tuple[str, ...]:  # noqa: ARG002 (the protocol's)
        """Nothing."""
        return ()

    @contextmanager
    def building(self, recipe: Recipe, context: Path, file: Path, image: str) -> Iterator[Layout]:
        """Build it from `context`, its `.dockerignore` honoured, with Dockerfile `file`; there while the block lasts.

        Raises:
            PipelineError: it does not build; the message has the last lines of what it said.
            Denied: a base image may not be pulled. Unavailable: a registry could not be reached.
        """
        with scratch() as folder, self.lent(self.environment) as environment:
            lent = {**environment, "TMPDIR": str(folder / "tmp")}
            last: deque[str] = deque(maxlen=LAST_LINES)

            def say(line: str) -> None:
                last.append(line)
                log.debug("%s", line)

            words = arguments(recipe, context, file, folder / "image")
            code = process.followed(self.program, *words, environment=lent, say=say)
            if code:
                error = next((line for line in reversed(last) if "error:" in line.lower()), f"code {code}")
                raise build_errors.said(f"build of {image}", error, "\n".join(last))
            yield Layout(folder / "image")


def arguments(recipe: Recipe, context: Path, file: Path, image: Path) -> Iterator[str]:
    """The words of `buildctl build` that leave the image as an OCI layout in the folder `image`."""
    yield from ("build", "--progress=plain", "--frontend=dockerfile.v0")
    yield from (
        f"--local=context={context}",
        f"--local=dockerfile={file.parent}",
        f"--opt=filename={file.name}",
    )
    if recipe.target:
        yield f"--opt=target={recipe.target}"
    if recipe.platforms:
        yield f"--opt=platform={','.join(recipe.platforms)}"
    yield from (f"--opt=build-arg:{key}={value}" for key, value in recipe.arguments.items())
    yield from (f"--opt=label:{key}={value}" for key, value in recipe.labels.items())
    yield from (f"--secret={_secret(secret)}" for secret in recipe.secrets)
    if recipe.cache:
        yield f"--import-cache=type=registry,ref={recipe.cache}"
        yield f"--export-cache=type=registry,ref={recipe.cache},mode=max"
    if recipe.attest:
        yield from ("--opt=attest:provenance=mode=min", "--opt=attest:sbom=")
    # Attestations with a `subject` are referrers of their image: BuildKit 0.19 and later.
    artifact = ",oci-artifact=true" if recipe.attest else ""
    yield f"--output=type=oci,dest={image},tar=false,rewrite-timestamp=true{artifact}"


def _secret(secret: BuildSecret) -> str:
    return f"id={secret.name},{f'env={secret.variable}' if secret.variable else f'src={secret.path}'}"
