"""Who we are at a registry."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock

from pipeline_tools.adapters import google
from pipeline_tools.adapters.credential_agent import Agent
from pipeline_tools.adapters.docker_config import Logins
from pipeline_tools.adapters.registry import Registries
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import Session
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.text import google_identity, references
from pipeline_tools.text.credentials import Credential

log = logging.getLogger(__name__)

OURS = ("repository", "candidate_repository", "cache")
"""The options that name a repository of ours."""

Source = Callable[[], Credential | None]


class Access:
    """The credential for each host, chosen once and asked for anew each time: Google's tokens are renewed in time.

    What an option or a variable gives (a password, Google's tokens) is for the hosts of our repositories that an
    option or a variable names; docker's own logins say themselves which host they are for.
    """

    def __init__(self, run: Session, docker: Logins) -> None:
        """Take the options of `run`, and docker's logins.

        Raises:
            PipelineError: options that need each other are not all there.
        """
        self._run = run
        self._options = run.options(RegistryAccess)
        self._docker = docker
        self._chosen: dict[str, Source] = {}
        # The agent answers in threads while a step asks too: one token is enough for all of them.
        self._lock = Lock()
        if self._options.registry_password.reveal() and not self._options.registry_user:
            raise PipelineError(
                "PT_REGISTRY_PASSWORD is set without PT_REGISTRY_USER", hint="set both, or neither"
            )

    def __call__(self, host: str) -> Credential | None:
        """The credential for `host[:port]`, None to be anonymous there.

        Raises:
            Denied: only the checkout names this host, or Google refuses.
            PipelineError: --registry-auth cannot do what it says.
        """
        with self._lock:
            if host not in self._chosen:
                self._chosen[host] = self._choose(host)
            return self._chosen[host]()

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts of our repositories, and all that docker's own logins are for."""
        return frozenset(filter(None, (_host(self._run, name) for name in OURS))) | self._docker.hosts()

    def _choose(self, host: str) -> Source:
        if host in {_host(self._run, name) for name in OURS if not self._run.is_from_include(name)}:
            way, reason = self._way(host)
            log.info("%s: logging in by %s, %s", host, way, reason)
            return self._source(way, host)
        if host in {_host(self._run, name) for name in OURS}:
            return lambda: self._docker.credential(host) or _nothing_for(host)
        return lambda: self._docker.credential(host)

    def _way(self, host: str) -> tuple[str, str]:
        """Which of the ways it is, and why."""
        options = self._options
        if options.registry_auth != "auto":
            return options.registry_auth, "as --registry-auth says"
        if options.registry_password.reveal():
            return "basic", "for PT_REGISTRY_PASSWORD is set"
        is_google = self._is_google(host)
        if is_google and options.google_id_token.reveal() and options.google_workload_identity_provider:
            return "oidc", "for PT_GOOGLE_ID_TOKEN is set"
        if self._docker.credential(host):
            return "docker-config", "for docker has a login there"
        if is_google and google.is_here(self._run.environment):
            return "metadata", "for this machine is Google's"
        return "docker-config", "for nothing else is there"

    def _source(self, way: str, host: str) -> Source:
        if way == "docker-config":
            return lambda: self._docker.credential(host)
        if way == "basic":
            return self._basic
        if not self._is_google(host):
            raise PipelineError(
                f"no Google token goes to {host}",
                hint="it is not one of Google's registries: use another --registry-auth, or name it with --google-registry",
            )
        return self._metadata if way == "metadata" else self._federated

    def _is_google(self, host: str) -> bool:
        return google_identity.is_registry(host) or host in self._options.google_registry

    def _basic(self) -> Credential:
        options = self._options
        if not (options.registry_user and options.registry_password.reveal()):
            raise PipelineError(
                "--registry-auth basic has no password",
                hint="set PT_REGISTRY_USER and PT_REGISTRY_PASSWORD; a protected variable is absent on an unprotected ref",
            )
        return Credential(options.registry_user, options.registry_password)

    @cached_property
    def _metadata(self) -> "google.Identity":
        return google.metadata(self._run.console.mask.add_if_long_enough)

    @cached_property
    def _federated(self) -> "google.Identity":
        options = self._options
        if not (options.google_id_token.reveal() and options.google_workload_identity_provider):
            raise PipelineError(
                "--registry-auth oidc needs an id token and its provider",
                hint="let the job have id_tokens: PT_GOOGLE_ID_TOKEN, and set PT_GOOGLE_WORKLOAD_IDENTITY_PROVIDER",
            )
        federation = google.Federation(
            google_identity.provider(options.google_workload_identity_provider),
            options.google_service_account,
            options.google_sts_url,
            options.google_iam_url,
        )
        return google.federated(
            options.google_id_token, federation, self._run.console.mask.add_if_long_enough
        )


def _nothing_for(host: str) -> Credential:
    raise Denied(
        f"no credential goes to {host}: only .gitlab-ci.yml names it",
        hint="say that you mean that host with --repository or PT_REPOSITORY, or log in there with docker login",
    )


def _host(run: Session, name: str) -> str | None:
    text = run.params.get(name)
    return references.repository(text).host if text else None


def logins(run: Session) -> Logins:
    """What docker itself would know: `DOCKER_AUTH_CONFIG`, then the user's config.json."""
    access = run.options(RegistryAccess)
    home = run.environment.get("HOME")
    directory = access.docker_config or (Path(home) / ".docker" if home else None)
    return Logins(directory, access.docker_auth_config, run.environment)


def access(run: Session) -> Access:
    """The credentials by host, the same for all steps of a run: a token is fetched once."""
    return run.once(_access)


def _access(run: Session) -> Access:
    return Access(run, logins(run))


def registries(run: Session) -> Registries:
    """The registries, each with the credential for its own host."""
    return Registries(access(run))


def base_logins(run: Session) -> dict[str, Credential]:
    """By host, the logins that a build may need for its base images: docker's own, and those of our own repositories.

    Asked when they are needed: a token among them is good for some minutes more.
    """
    known = access(run)
    ours = {_host(run, name) for name in OURS}
    found = {host: known(host) if host in ours else _helpful(known, host) for host in known.hosts}
    return {host: login for host, login in found.items() if login}


def _helpful(known: Access, host: str) -> Credential | None:
    """A login that the build may never need: what stands in its way is said, no more."""
    try:
        return known(host)
    except PipelineError as error:
        log.info("%s", error.message)
        return None


@contextmanager
def lent(run: Session, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """`environment`, in which docker's, buildah's and BuildKit's programs ask us for logins, while the block lasts.

    They find docker-credential-pipeline-tools as their credential helper. No login is on disk or in a variable.
    """
    known = access(run)
    with Agent(known, known.hosts) as agent:
        yield agent.variables(environment)
