"""Buildah, without a daemon and without privileges beyond root: chroot isolation, storage of its own for each build.

Sources: buildah-build(1), buildah-push(1), buildah-manifest-push(1), containers-transports(5).
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline_tools.adapters import ignoring, pod, process
from pipeline_tools.adapters.layout import Layout
from pipeline_tools.adapters.process import Environment
from pipeline_tools.adapters.scratch import scratch
from pipeline_tools.text import build_errors
from pipeline_tools.text.recipes import BuildSecret, Recipe

log = logging.getLogger(__name__)

LAST_LINES = 12
_IMAGE = "localhost/pipeline-tools/candidate"
"""What the image is called in its storage; nobody else sees it."""


@dataclass(frozen=True)
class Buildah:
    """The program `buildah`.

    `environment` is the whole one of the child, and `lent` makes of it, for as long as a build lasts, one in which
    buildah can ask for logins, for base images and the cache. `storage_driver` is `vfs`, which works everywhere, or
    `overlay`, which is faster. Each writes folders into layers in its own way, so the same commit has another digest
    with the other (measured with 1.28).
    """

    environment: Environment
    lent: Callable[[Environment], AbstractContextManager[Environment]] = nullcontext
    storage_driver: str = "vfs"
    name = "buildah"

    def ready(self) -> None:
        """See that it is here, and that the pod lets it work.

        Raises:
            PipelineError: it is not installed, or the pod does not allow namespaces.
        """
        process.run("buildah", "--version", environment=self.environment)
        pod.unshare(self.environment)

    def lacks(self, recipe: Recipe) -> tuple[str, ...]:
        """What of a recipe it cannot do."""
        asked = {
            # 1.28 takes one platform's layers for the other's.
            "--cache with several platforms": bool(recipe.cache) and len(recipe.platforms) > 1,
            "--attest": recipe.attest,
        }
        return tuple(name for name, is_asked in asked.items() if is_asked)

    @contextmanager
    def building(self, recipe: Recipe, context: Path, file: Path, image: str) -> Iterator[Layout]:
        """Build it from `context`, its `.dockerignore` honoured, with Dockerfile `file`; there while the block lasts.

        Raises:
            PipelineError: it does not build; the message has the last lines of what it said.
            Denied: a base image may not be pulled. Unavailable: a registry could not be reached.
        """
        with scratch() as folder, self.lent(self.environment) as environment:
            # Its big temporary files where they go with the rest.
            lent = {**environment, "TMPDIR": str(folder / "tmp")}
            apart = pod.unshare(self.environment)
            ignored = folder / "ignored"
            ignored.write_bytes(os.fsencode("\n".join(ignoring.patterns(context, file))))
            with _emptied(folder, apart, lent):
                run = _Run(self, lent, folder, (*apart, "buildah"), f"build of {image}")
                run(*_build(recipe, file), f"--ignorefile={ignored}", str(context))
                is_list = len(recipe.platforms) > 1
                words = ("manifest", "push", "--all") if is_list else ("push",)
                run(*words, "--format", "oci", _IMAGE, f"oci:{folder / 'image'}")
                yield Layout(folder / "image")


@contextmanager
def _emptied(folder: Path, apart: tuple[str, ...], environment: Environment) -> Iterator[None]:
    """Afterwards buildah's storage is gone: without root its files are other users', whom we are only in there."""
    try:
        yield
    finally:
        if "--user" in apart:
            storage = (str(folder / name) for name in ("root", "run", "tmp"))
            process.ended(*apart, "rm", "-rf", *storage, environment=environment)


@dataclass(frozen=True)
class _Run:
    """Buildah commands of one build, on its storage in `folder`."""

    buildah: Buildah
    environment: Environment
    folder: Path
    program: tuple[str, ...]
    what: str

    def __call__(self, *words: str) -> None:
        last: deque[str] = deque(maxlen=LAST_LINES)

        def say(line: str) -> None:
            last.append(line)
            log.log(logging.INFO if line.startswith("STEP ") else logging.DEBUG, "%s", line)

        code = process.followed(
            *self.program, *self._storage(), *words, environment=self.environment, say=say
        )
        if code:
            error = next((line for line in reversed(last) if line.startswith("Error: ")), f"code {code}")
            raise build_errors.said(self.what, error.removeprefix("Error: "), "\n".join(last))

    def _storage(self) -> tuple[str, ...]:
        driver = self.buildah.storage_driver
        return (
            "--root", str(self.folder / "root"), "--runroot", str(self.folder / "run"), "--storage-driver", driver,
        )  # fmt: skip


def _build(recipe: Recipe, file: Path) -> Iterator[str]:
    """The words of `buildah build` but for the context."""
    # Docker's format while it builds: in OCI's there is no SHELL, and buildah would run /bin/sh without a word.
    yield from (
        "build",
        "--format",
        "docker",
        "--isolation",
        "chroot",
        "--file",
        str(file),
        "--identity-label=false",
    )
    yield f"--timestamp={recipe.epoch}"
    yield from ("--manifest" if len(recipe.platforms) > 1 else "--tag", _IMAGE)
    yield from (f"--platform={platform}" for platform in recipe.platforms)
    if recipe.target:
        yield f"--target={recipe.target}"
    if recipe.cache:
        yield from ("--layers", f"--cache-from={recipe.cache}", f"--cache-to={recipe.cache}")
    yield from (f"--build-arg={key}={value}" for key, value in recipe.arguments.items())
    yield from (f"--label={key}={value}" for key, value in recipe.labels.items())
    yield from (f"--secret={_secret(secret)}" for secret in recipe.secrets)


def _secret(secret: BuildSecret) -> str:
    if secret.variable:
        return f"id={secret.name},type=env,env={secret.variable}"
    return f"id={secret.name},type=file,src={secret.path}"
