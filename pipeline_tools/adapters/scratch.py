"""A builder's own folder for one build, gone afterwards: its storage, the image, the logins."""

import base64
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline_tools.text.credentials import Credential

log = logging.getLogger(__name__)


@contextmanager
def scratch(logins: Mapping[str, Credential]) -> Iterator[Path]:
    """A folder only we can read, with `config.json` in docker's format for builders that read logins from a file only."""
    path = Path(tempfile.mkdtemp(prefix="pt-build-"))
    try:
        (path / "tmp").mkdir()
        _private(path / "config.json", json.dumps({"auths": dict(map(_row, logins.items()))}))
        yield path
    finally:
        shutil.rmtree(path, onerror=lambda _, name, why: log.debug("%s stays: %s", name, why[1]))


def _row(item: tuple[str, Credential]) -> tuple[str, dict[str, str]]:
    host, login = item
    return host, {"auth": base64.b64encode(f"{login.user}:{login.password.reveal()}".encode()).decode()}


def _private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
