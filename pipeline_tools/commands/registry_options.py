"""The options of whoever may ask a registry. Apart from what asks, which takes its time to import."""

from dataclasses import dataclass
from pathlib import Path

from pipeline_tools.text.masks import Secret


@dataclass(frozen=True)
class RegistryAccess:
    """The options that say who we are at registries."""

    registry_auth: str
    registry_user: str | None
    registry_password: Secret
    google_id_token: Secret
    google_workload_identity_provider: str | None
    google_service_account: str | None
    google_registry: tuple[str, ...]
    google_sts_url: str
    google_iam_url: str
    docker_auth_config: Secret
    docker_config: Path | None
