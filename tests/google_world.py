"""A Google with a pool that takes GitLab's id tokens, and an Artifact Registry in front of a real registry."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_tools.adapters import google as adapter
from pipeline_tools.text import google_identity
from pipeline_tools.text.masks import Secret
from sandbox.google import ArtifactRegistry, Google, Pool
from sandbox.kubernetes_tokens import Issuer, gitlab_id_token
from sandbox.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipeline_tools.adapters.google import Identity
    from sandbox.google.tokens import Issued

APPS, CANDIDATES = "acme/apps", "acme/candidates"
ACCOUNT = "builder@acme.iam.gserviceaccount.com"


@dataclass
class GoogleWorld:
    """`google` issues tokens, `registry` takes them as `door` says; `tokens` are those that our adapter was given."""

    google: Google
    door: ArtifactRegistry
    registry: Registry
    tokens: list[Secret]

    @classmethod
    @contextlib.contextmanager
    def start(cls, directory: Path) -> Iterator[GoogleWorld]:
        pool = Pool(
            Issuer.make("https://gitlab.example.com"), lambda claims: claims["ref_protected"] == "true"
        )
        with Google.start(pool) as google:
            job = pool.member({"project_id": "42"})
            writers = frozenset({job, f"serviceAccount:{ACCOUNT}"})
            door = ArtifactRegistry(google.tokens, {APPS: writers, CANDIDATES: writers})
            with Registry.start(directory, rules=(door,)) as registry:
                yield cls(google, door, registry, [])

    @property
    def behind(self) -> Registry:
        """The registry without its door, to look at and to put images into."""
        return dataclasses.replace(self.registry, host=self.registry.proxy.backend)

    @property
    def job(self) -> str:
        """The GitLab job, as a member of IAM."""
        return self.google.pool.member({"project_id": "42"})

    @property
    def issued(self) -> list[Issued]:
        return self.google.tokens.issued

    def id_token(self, **changes: Any) -> Secret:
        changes = {"audience": self.google.pool.audience, **changes}
        return Secret(gitlab_id_token(self.google.pool.issuer, **changes))

    def metadata(self, patience: float = 5.0) -> Identity:
        return adapter.metadata(self.tokens.append, patience)

    def federated(
        self, *, account: str | None = None, patience: float = 5.0, provider: str = "", **changes: Any
    ) -> Identity:
        federation = adapter.Federation(
            google_identity.provider(provider or self.google.pool.provider),
            account,
            self.google.url,
            self.google.url,
        )
        return adapter.federated(self.id_token(**changes), federation, self.tokens.append, patience)

    @property
    def oidc(self) -> Mapping[str, str]:
        """The variables of a job that has an id token."""
        return {
            "PT_GOOGLE_ID_TOKEN": self.id_token().reveal(),
            "PT_GOOGLE_WORKLOAD_IDENTITY_PROVIDER": self.google.pool.provider,
            "PT_GOOGLE_STS_URL": self.google.url,
            "PT_GOOGLE_IAM_URL": self.google.url,
            "PT_GOOGLE_REGISTRY": self.registry.host,
        }
