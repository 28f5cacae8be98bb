"""A builder's own folder for one build, gone afterwards: its storage and the image."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder only we can read, with `tmp` in it."""
    path = Path(tempfile.mkdtemp(prefix="pt-build-"))
    try:
        (path / "tmp").mkdir()
        yield path
    finally:
        shutil.rmtree(path, onerror=lambda _, name, why: log.debug("%s stays: %s", name, why[1]))
