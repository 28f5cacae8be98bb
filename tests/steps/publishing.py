"""A release's image on its way from a candidate to a version, in real registries."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline_tools.adapters import http
from pipeline_tools.adapters.checkout import Checkout
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.steps import push
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from pipeline_tools.text.receipt import Built, Receipt, Tagged
from tests import registry_images as images
from tests.conftest import CI_PASSWORD, CI_USER
from tests.steps.driving import Listener, run
from tests.world import git

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.registry import Registry as Server


class World:
    """A checkout with a tag, a candidate, and where it will be published."""

    def __init__(self, app: Path, server: Server, candidates: str, target: str) -> None:
        self.app, self.server, self.candidates, self.target = app, server, candidates, target
        self.commit = git(app, "rev-parse", "HEAD")
        self.digest = images.put_image(server, candidates, "sha-x", {images.REVISION: self.commit})
        self.login = Credential(CI_USER, Secret(CI_PASSWORD))
        self.host = server.host
        self.keeps_tags: bool | None = None

    def receipt(self, version: str = "1.4.0") -> Receipt:
        return Receipt(
            tag=Tagged(f"v{version}", version, self.commit),
            build=Built(f"{self.server.host}/{self.candidates}", "sha-x", self.digest),
        )

    def run(
        self,
        version: str = "1.4.0",
        *,
        dry_run: bool = False,
        listener: Listener | None = None,
        **changes: Any,
    ) -> push.Outcome:
        options = push.Options(repository=f"{self.host}/{self.target}")
        asked = push.request(dataclasses.replace(options, **changes), self.receipt(version))
        registries = Registries(lambda _: self.login, partial(http.session, backoff=0.01))
        ports = push.Ports(
            Checkout(self.app), registries, lambda: Checkout(self.app).tags, lambda _: self.keeps_tags
        )
        outcome = run(push.STEP, asked, ports, dry_run=dry_run, listener=listener)
        assert isinstance(outcome, push.Outcome)
        return outcome

    @property
    def contents(self) -> dict[str, str]:
        return images.contents(self.server, self.target)

    def put(self, tag: str, revision: str) -> str:
        """Somebody else's image in the target."""
        return images.put_image(self.server, self.target, tag, {images.REVISION: revision, "other": tag})
