"""What of a context is not sent, read once for all builders."""

from pathlib import Path

from pipeline_tools.text import ignores


def patterns(context: Path, file: Path) -> tuple[str, ...]:
    """The patterns that hold for `context`, built with the Dockerfile `file`.

    The Dockerfile's own come first, as BuildKit has it (docs.docker.com, "Filename and location"). Where there is no
    `.dockerignore`, `.containerignore` is one, as buildah has it (buildah-build(1), "FILES").
    """
    names = (
        file.with_name(f"{file.name}.dockerignore"), context / ".dockerignore", context / ".containerignore",
    )  # fmt: skip
    found = next((path for path in names if path.is_file()), None)
    return ignores.patterns(found.read_bytes()) if found else ()
