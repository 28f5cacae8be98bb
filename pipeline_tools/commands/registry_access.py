"""Who we are at a registry."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline_tools.adapters.docker_config import Logins
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import Session
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.text import references
from pipeline_tools.text.credentials import Credential

OURS = ("repository", "candidate_repository", "cache")
"""The options that name a repository of ours."""


def logins(run: Session) -> Logins:
    """What docker itself would know: `DOCKER_AUTH_CONFIG`, then the user's config.json."""
    access = run.options(RegistryAccess)
    home = run.environment.get("HOME")
    directory = access.docker_config or (Path(home) / ".docker" if home else None)
    return Logins(directory, access.docker_auth_config, run.environment)


def registries(run: Session) -> Registries:
    """The registries, each with the credential for its own host.

    `PT_REGISTRY_USER` and `PT_REGISTRY_PASSWORD` are for the hosts of the repositories that an option or a
    variable names; docker's own logins say themselves which host they are for.
    """
    access, known = run.options(RegistryAccess), logins(run)
    if not access.registry_password.reveal():
        return Registries(known.credential)
    if not access.registry_user:
        raise PipelineError(
            "PT_REGISTRY_PASSWORD is set without PT_REGISTRY_USER", hint="set both, or neither"
        )
    given = Credential(access.registry_user, access.registry_password)
    return Registries(partial(_login, run, given, known.credential))


def base_logins(run: Session) -> dict[str, Credential]:
    """By host, the logins that a build may need for its base images: those written down, and those of our own repositories."""
    known = registries(run)
    places = [references.repository(run.params[name]) for name in OURS if run.params.get(name)]
    ours = {place.host: known.credential(place) for place in places}
    return logins(run).written() | {host: login for host, login in ours.items() if login}


def _login(
    run: Session, given: Credential, known: Callable[[str], Credential | None], host: str
) -> Credential | None:
    if host in {_host(run, name) for name in OURS if not run.is_from_include(name)}:
        return given
    found = known(host)
    if found is None and host in {_host(run, name) for name in OURS}:
        raise Denied(
            f"no credential goes to {host}: only .gitlab-ci.yml names it",
            hint="say that you mean that host with --repository or PT_REPOSITORY, or log in there with docker login",
        )
    return found


def _host(run: Session, name: str) -> str | None:
    text = run.params.get(name)
    return references.repository(text).host if text else None
