"""What the GitLab adapters share: one project, one token, and GitLab's refusals in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Literal

import gitlab
from gitlab.exceptions import GitlabError

from pipeline_tools.adapters import http
from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable
from pipeline_tools.text.masks import Secret

Kind = Literal["private_token", "job_token"]
"""What a token is, in python-gitlab's words: an access token, or the CI_JOB_TOKEN."""

HEADERS: dict[Kind, str] = {"private_token": "PRIVATE-TOKEN", "job_token": "JOB-TOKEN"}


class Client:
    """One project of a GitLab instance, with one token.

    `url` is the instance, `path` the project's path with namespace or its id. `variable` is the variable
    the token comes from: it is what a refusal tells people to look at. `kind` says what the token is.
    """

    def __init__(
        self, url: str, path: str, token: Secret, *, variable: str, kind: Kind = "private_token"
    ) -> None:
        self.path, self.variable, self.kind = path, variable, kind
        credentials: dict[str, Any] = {kind: token.reveal()} if token.reveal() else {}
        self._headers = {HEADERS[kind]: token.reveal()} if token.reveal() else {}
        self._client = gitlab.Gitlab(url, session=http.session(stays=True), timeout=http.READ, **credentials)
        self._project = self._client.projects.get(path, lazy=True)

    def _maybe(self, get: Any, key: Any) -> Any:
        """What `get` finds, or None where GitLab says that there is no such thing."""
        try:
            return get(key)
        except GitlabError as error:
            unknown = error.response_code == HTTPStatus.BAD_REQUEST and "Could not find ref" in str(
                error.error_message
            )
            if unknown or error.response_code == HTTPStatus.NOT_FOUND:
                return None
            raise

    @contextmanager
    def _errors(self, doing: str, role: str = "") -> Iterator[None]:
        """Say what goes wrong in our words; `role` is the least that GitLab wants for it, for the hint."""
        try:
            with http.errors(self._client.url):
                yield
        except GitlabError as error:
            raise self._said(error, doing, role) from None

    def _said(self, error: GitlabError, doing: str, role: str) -> PipelineError:
        """GitLab's status code in our words (docs: REST API, "Status codes"); 404 stands for missing rights too."""
        code, words = error.response_code, str(error.error_message)
        message = f"GitLab refuses to {doing} in {self.path}: {words}"
        if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return Denied(message, hint=self._rights(role))
        if code == HTTPStatus.NOT_FOUND:
            return Denied(
                f"{message} (404)",
                hint=f"wrong project path, or {self.variable} may not see it; for a job token: the project's job "
                "token allowlist, and the user's role there",
            )
        if code is not None and (
            code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            return Unavailable(message, hint="run it again")
        return _otherwise(code, words, message, self.variable)

    def _rights(self, role: str) -> str:
        needs = f"it needs the role {role}; " if role else ""
        if self.kind == "job_token":
            return (
                f"{needs}{self.variable} acts for who started the job, while it runs, and in other projects only if "
                "their Settings > CI/CD > Job token permissions list this one"
            )
        return f"{needs}is {self.variable} valid, with the right scope and role? Empty on an unprotected ref?"


def _otherwise(code: int | None, words: str, message: str, variable: str) -> PipelineError:
    """What only GitLab's own words tell apart."""
    bad = code == HTTPStatus.BAD_REQUEST
    if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (bad and "too long" in words):
        return PipelineError(message, hint="make it shorter: that is the most this GitLab takes")
    if bad and "Duplicate package" in words:
        return Denied(
            message,
            hint="allow duplicates of generic packages: the group's Settings > Packages and registries",
        )
    if bad and "protected" in words:  # so does lib/api/tags.rb answer
        return Denied(
            message, hint=f"let the owner of {variable} create it: Settings > Repository > Protected tags"
        )
    if bad and "variables" in words:
        return Denied(
            message, hint="allow pipeline variables in the project's CI/CD settings, or pass --input instead"
        )
    kind = Refused if code == HTTPStatus.UNPROCESSABLE_ENTITY else PipelineError
    return kind(message, hint=f"GitLab's own words; its status code was {code}")
