"""Names of Google's identities, the addresses tokens go to, and what Google's refusals ask for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import artifact_registry, google_identity
from pipeline_tools.text.claims import Claims

NAME = "projects/123456789012/locations/global/workloadIdentityPools/gitlab/providers/main"
POOL = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/gitlab"
MEMBER = f"principalSet:{POOL}/attribute.project_id/42"
CLAIMS = Claims({"sub": "project_path:a/b", "project_id": "42", "project_path": "a/b", "aud": "vault"})


@pytest.mark.parametrize("prefix", ["", "//iam.googleapis.com/", "https://iam.googleapis.com/"])
def test_a_provider_by_its_name_or_as_an_audience(prefix: str) -> None:
    found = google_identity.provider(prefix + NAME)
    assert str(found) == NAME
    assert found.audience == f"//iam.googleapis.com/{NAME}"
    assert found.id_token_audience == f"https://iam.googleapis.com/{NAME}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        NAME.replace("123456789012", "acme"),
        NAME.removesuffix("/providers/main"),
        f"{NAME}/x",
        f"http://iam.googleapis.com/{NAME}",
        f"//evil.example.com/{NAME}",
        f"{NAME}\n",
    ],
)
def test_what_is_no_provider(text: str) -> None:
    with pytest.raises(PipelineError, match="not a workload identity provider"):
        google_identity.provider(text)


def test_a_job_is_its_project_s_member_or_a_subject() -> None:
    provider = google_identity.provider(NAME)
    assert provider.member(CLAIMS) == MEMBER
    assert provider.member(Claims({"sub": "x"})) == f"principal:{POOL}/subject/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://sts.googleapis.com", "https://sts.googleapis.com"),
        ("https://sts.googleapis.com/", "https://sts.googleapis.com"),
        (
            "https://sts.europe-west1.rep.googleapis.com:443",
            "https://sts.europe-west1.rep.googleapis.com:443",
        ),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
    ],
)
def test_where_tokens_may_go(text: str, expected: str) -> None:
    assert google_identity.endpoint(text) == expected


@given(st.text(max_size=60) | st.from_regex(r"(https?|ftp)://[a-z.@:/?#\[\]0-9]{0,30}"))
def test_a_token_s_address_is_encrypted_or_this_machine_s(text: str) -> None:
    try:
        found = google_identity.endpoint(text)
    except PipelineError:
        return
    assert re.fullmatch(r"https://[^/@?#]+|http://(127(\.\d+){3}|localhost|\[::1\])(:\d+)?", found)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("europe-west1-docker.pkg.dev", True),
        ("gcr.io", True),
        ("eu.gcr.io", True),
        ("pkg.dev.example.com", False),
        ("evilgcr.io", False),
        ("notpkg.dev", False),
        ("gcr.io:5000", False),
        ("europe-docker.pkg.dev:5000", False),
        ("docker.io", False),
    ],
)
def test_google_s_registries(host: str, *, expected: bool) -> None:
    assert google_identity.is_registry(host) is expected


# What refusals ask for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("unauthorized_client: The given credential is rejected by the attribute condition.", "refuses a/b"),
        ("invalid_grant: The audience in ID Token [vault] does not match the expected audience.",
         f"aud: https://iam.googleapis.com/{NAME}"),
        ("invalid_grant: ID Token issued at 1 is stale to sign-in.", "raise the timeout"),
        ("invalid_grant: The issuer in ID Token https://a does not match the expected ones: https://b", "issuer_uri"),
        ('invalid_request: Invalid value for "audience".', f"does {NAME} exist"),
        ("invalid_target: The target service …", f"does {NAME} exist"),
        ("something else", "cloud.google.com/iam/docs"),
    ],
)  # fmt: skip
def test_a_refused_exchange(reason: str, advice: str) -> None:
    assert advice in google_identity.exchange_advice(reason, google_identity.provider(NAME), CLAIMS)


def test_an_api_that_is_not_enabled() -> None:
    said = google_identity.impersonation_advice("PERMISSION_DENIED: … SERVICE_DISABLED", "a@p", MEMBER)
    assert said == "enable iamcredentials.googleapis.com in the project of a@p"


RESOURCE = "projects/acme/locations/europe-west1/repositories/apps"
PATH = "europe-west1-docker.pkg.dev/acme/apps/shop/manifests/1.0.0"


@pytest.mark.parametrize(
    ("permission", "role"),
    [
        ("artifactregistry.repositories.uploadArtifacts", "grant roles/artifactregistry.writer"),
        ("artifactregistry.repositories.downloadArtifacts", "grant roles/artifactregistry.reader"),
        ("artifactregistry.repositories.deleteArtifacts", "grant roles/artifactregistry.repoAdmin"),
        ("artifactregistry.x.y", "grant a role with artifactregistry.x.y"),
    ],
)
def test_a_missing_permission_is_a_role_on_a_repository(permission: str, role: str) -> None:
    for words in (
        f'DENIED: Permission "{permission}" denied on resource "{RESOURCE}" (or it may not exist)',
        f'UNAUTHORIZED: Unauthenticated requests do not have permission "{permission}" on resource "{RESOURCE}"',
    ):
        assert artifact_registry.advice(words, PATH, MEMBER).startswith(f"{role} on {RESOURCE} to {MEMBER}; ")
    assert "to the account that is used here" in artifact_registry.advice(words, PATH, "")


def test_a_missing_repository_is_named_in_full() -> None:
    said = artifact_registry.advice('NAME_UNKNOWN: Repository "apps" not found', PATH, "")
    assert said == f"create {RESOURCE}: Artifact Registry makes no repository by itself"


def test_a_path_without_its_segments() -> None:
    for path in (PATH, "localhost/a/b"):
        assert "PROJECT/REPOSITORY/IMAGE" in artifact_registry.advice(
            "NAME_INVALID: Missing image name.", path, ""
        )


@pytest.mark.parametrize(
    "reason", ["DENIED: no", "MANIFEST_UNKNOWN: manifest unknown", "", "Repository not found"]
)
def test_other_registries_words_are_left_alone(reason: str) -> None:
    assert artifact_registry.advice(reason, "registry.example.com/a/b/manifests/1", MEMBER) == ""


@given(st.text(), st.text(), st.text())
def test_any_words_of_any_registry_can_be_looked_at(reason: str, path: str, principal: str) -> None:
    assert isinstance(artifact_registry.advice(reason, path, principal), str)
