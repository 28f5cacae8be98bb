"""What several steps' tests ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox import parts
from sandbox.pytest_parts import require
from sandbox.referrers import ReferrersApi
from sandbox.registry import Htpasswd
from sandbox.registry import Registry as Server
from tests.conftest import CI_PASSWORD, CI_USER

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry with the referrers API, two to a page."""
    require(parts.REGISTRY)
    auth = Htpasswd({CI_USER: CI_PASSWORD})
    with Server.start(
        tmp_path_factory.mktemp("listing"), auth=auth, rules=(ReferrersApi(page=2),)
    ) as started:
        yield started
