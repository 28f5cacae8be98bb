"""How one logs in to Vault, and what a refused login wants.

The words of refusals are those of OpenBao 2.7 and Vault (builtin/credential/jwt, vault-plugin-auth-kubernetes
path_login.go).
"""

from dataclasses import dataclass

from pipeline_tools.errors import Denied
from pipeline_tools.text.claims import Claims
from pipeline_tools.text.masks import Secret


@dataclass(frozen=True)
class Login:
    """An identity that is proved by a token of somebody else: `method` is kubernetes or jwt."""

    method: str
    role: str
    mount: str
    token: Secret

    def __str__(self) -> str:
        return f"{self.method} role {self.role} at auth/{self.mount}"


@dataclass(frozen=True)
class Given:
    """A Vault token that somebody else made, and will end."""

    token: Secret

    def __str__(self) -> str:
        return "the token given as VAULT_TOKEN"


Identity = Login | Given

TOKEN_HINTS = {
    "kubernetes": "--kubernetes-token-file names the projected service-account token of this pod",
    "jwt": "give the job an id token: id_tokens: {VAULT_ID_TOKEN: {aud: …}}",
}
"""Where the token of each method comes from."""


def refused(login: Login, said: str, now: float) -> Denied:
    """Which of role, audience, namespace, account, claim or time failed.

    Args:
        login: what was tried.
        said: Vault's own reason.
        now: seconds since the epoch.
    """
    claims = Claims.of(login.token.reveal())
    problem = claims.problem(now) if claims else "the token is no JWT"
    hint = next((text for words, text in _HINTS if any(word in said for word in words)), "")
    if not hint and not problem:
        hint = _unsaid(login)
    reason = f"{problem} ({said})" if problem else said
    return Denied(
        f"Vault refused {login}: {reason}", hint=(hint or _TIME_HINT).format(**_facts(login, claims))
    )


_HINTS = (
    (("namespace not authorized",), "bound_service_account_namespaces of role {role} must name {namespace}"),
    (("account name not authorized",), "bound_service_account_names of role {role} must name {account}"),
    (("audience",), ("the token is for {audience}; audience (or bound_audiences) of role {role} must say the same as the "
                    "projected volume's audience, or the id token's aud")),
    (("invalid role", "could not be found"), "auth/{mount} has no role {role}; --vault-role names one"),
    (("bound claim", "bound_claims", 'claim "'), "bound_claims of role {role} do not admit this job: {claims}"),
    (("bound_subject", "sub claim"), "bound_subject of role {role} must be {subject}"),
    (("known key", "signature"), "auth/{mount} does not know the key of {issuer}: is that the issuer it is configured for?"),
    (("invalid issuer", "issuer"), "bound_issuer of auth/{mount} must be {issuer}"),
)  # fmt: skip
_TIME_HINT = "a fresh token: the kubelet renews the projected file, GitLab makes an id token a job; and are the clocks right?"


def _unsaid(login: Login) -> str:
    """A bare "permission denied": what Vault leaves unsaid on purpose."""
    if login.method == "kubernetes":
        return (
            "Vault gives no reason: is there a kubernetes auth method at auth/{mount} (in this namespace), and may its "
            "reviewer ask the cluster {issuer} for token reviews (system:auth-delegator)?"
        )
    return "Vault gives no reason: is there a jwt auth method at auth/{mount}, in this namespace?"


def _facts(login: Login, claims: Claims | None) -> dict[str, str]:
    known = claims or Claims({})
    named = ("project_path", "ref", "ref_type", "ref_protected", "environment", "project_id")
    return {
        "role": login.role,
        "mount": login.mount,
        "namespace": known.namespace or "(the token names none)",
        "account": known.account or "(the token names none)",
        "audience": ", ".join(known.audience) or "nobody",
        "issuer": known.issuer or "(the token names none)",
        "subject": str(known.all.get("sub", "")),
        "claims": ", ".join(f"{name}={known.all[name]}" for name in named if name in known.all),
    }
