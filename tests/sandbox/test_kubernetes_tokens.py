"""The cluster that reviews tokens: what it signs it knows, and nothing else."""

from __future__ import annotations

import jwt
import pytest

from sandbox.kubernetes_tokens import Cluster, Issuer, Mood, gitlab_id_token


def review(cluster: Cluster, token: str, *audiences: str, reviewer: str = "") -> tuple[int, bool]:
    spec = {"token": token, "audiences": list(audiences)}
    status, body = cluster.review(reviewer or cluster.reviewer_token, spec)
    found = body["status"]
    return status, isinstance(found, dict) and found["authenticated"]


def test_a_token_is_what_kubernetes_projects(cluster: Cluster) -> None:
    claims = jwt.decode(cluster.token("ci-dev", "job"), options={"verify_signature": False})
    assert claims["sub"] == "system:serviceaccount:ci-dev:job"
    assert claims["aud"] == ["vault"]
    assert claims["exp"] - claims["iat"] == 600
    assert claims["kubernetes.io"]["namespace"] == "ci-dev"
    assert set(claims["kubernetes.io"]) == {"namespace", "pod", "serviceaccount"}


def test_only_its_own_tokens_in_time_for_the_audience(cluster: Cluster) -> None:
    assert review(cluster, cluster.token("a", "b"), "vault") == (201, True)
    assert review(cluster, cluster.token("a", "b"), "other") == (201, False)
    assert review(cluster, cluster.token("a", "b", seconds=-5), "vault") == (201, False)
    assert review(cluster, Issuer.make(cluster.issuer.url).sign(aud=["vault"]), "vault") == (201, False)


def test_only_the_reviewer_may_ask(cluster: Cluster) -> None:
    assert review(cluster, cluster.token("a", "b"), "vault", reviewer=cluster.token("a", "b"))[0] == 403


@pytest.mark.parametrize(("mood", "status"), [(Mood.FORBIDS, 403), (Mood.BREAKS, 500)])
def test_it_misbehaves_on_purpose(cluster: Cluster, mood: Mood, status: int) -> None:
    with cluster.behaving(mood):
        assert review(cluster, cluster.token("a", "b"), "vault")[0] == status


def test_an_id_token_says_whether_the_ref_is_protected() -> None:
    issuer = Issuer.make("https://gitlab.example.com")
    token = gitlab_id_token(issuer, is_protected=False)
    claims = jwt.decode(token, issuer.public_key, algorithms=["RS256"], audience="vault")
    assert claims["ref_protected"] == "false"
