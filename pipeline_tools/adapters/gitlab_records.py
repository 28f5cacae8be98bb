"""What our runs leave in a GitLab project for people and for later runs: notes, issues, and files of generic packages."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin

import requests
from gitlab.exceptions import GitlabHttpError
from gitlab.utils import EncodedId

from pipeline_tools.adapters import http
from pipeline_tools.adapters.gitlab_client import Client
from pipeline_tools.errors import Denied, PipelineError

CHUNK = 65536


@dataclass(frozen=True)
class Note:
    """A note: its `id`, its whole `body`, and its place on the page of what it is on."""

    id: int
    body: str
    url: str


@dataclass(frozen=True)
class MergeRequest:
    """A merge request in GitLab's words; `sha` is the tip of its source branch, the others are None before the merge."""

    iid: int
    state: str
    source_branch: str
    target_branch: str
    url: str
    sha: str | None
    merge_commit_sha: str | None
    squash_commit_sha: str | None


@dataclass(frozen=True)
class Issue:
    """An issue in GitLab's words."""

    iid: int
    title: str
    description: str
    state: str
    url: str


class Records(Client):
    """The records of one project.

    Notes and issues are found again among those of our own user only: what somebody else wrote is never taken for
    ours, and so never overwritten or closed.
    """

    @cached_property
    def _user(self) -> Any:
        """The token's user; a project access token has a bot of its own (docs: Users API, "Get the current user")."""
        with self._errors("say who we are"):
            return self._client.http_get("/user")

    @property
    def _me(self) -> int:
        return int(self._user["id"])

    @property
    def username(self) -> str:
        """The name that HTTP Basic wants beside the token."""
        return str(self._user["username"])

    # Merge requests and their notes ------------------------------------------------------------------------

    def merge_requests_of(self, commit: str) -> list[MergeRequest]:
        """The merge requests that bring or brought a commit (docs: Commits API, "List merge requests associated with a commit")."""
        with self._errors(f"list the merge requests of {commit[:8]}", "Reporter"):
            found = self._project.commits.get(commit, lazy=True).merge_requests(iterator=True)
            return [_merge_request(row) for row in found]

    def merge_request_note(self, iid: int, marker: str) -> Note | None:
        """Our oldest note on a merge request whose first line is `marker`, or None (docs: Notes API)."""
        with self._errors(f"read the notes of !{iid}", "Reporter"):
            merge_request = self._project.mergerequests.get(iid)
            found = self._own_note(merge_request, marker)
            return _note(found, merge_request) if found else None

    def write_merge_request_note(self, iid: int, marker: str, body: str) -> Note:
        """Make or change our note that begins with the line `marker`, so that it reads `body` after it.

        A line of `body` that begins with a slash may be a quick action, which GitLab would do as our user (docs: Quick
        actions): the caller sees to it that there is none.

        Raises:
            PipelineError: it is longer than GitLab takes (1,000,000 characters; docs: Application limits).
        """
        whole = _stored(f"{marker}\n{body}")
        with self._errors(f"write a note on !{iid}", "Reporter"):
            merge_request = self._project.mergerequests.get(iid)
            found = self._own_note(merge_request, marker)
            if found is None:
                found = merge_request.notes.create({"body": whole})
            elif found.body != whole:
                merge_request.notes.update(found.id, {"body": whole})
            return Note(found.id, whole, f"{merge_request.web_url}#note_{found.id}")

    def _own_note(self, place: Any, first_line: str) -> Any:
        """Our oldest note on `place` with this first line, or None."""
        rows = place.notes.list(order_by="created_at", sort="asc", per_page=100, iterator=True)
        return next((row for row in rows if self._is_own(row) and _first_line(row.body) == first_line), None)

    def _is_own(self, row: Any) -> bool:
        return bool(row.author["id"] == self._me and not row.attributes.get("system"))

    # Issues ------------------------------------------------------------------------------------------------

    def issue(self, label: str, title: str) -> Issue | None:
        """Our open issue with exactly this label and title, or None; the oldest of several (docs: Issues API)."""
        with self._errors("read issues", "Guest"):
            found = self._own_issue(label, title)
            return _issue(found) if found else None

    def write_issue(self, label: str, title: str, description: str) -> Issue:
        """Open our issue, or change the description of the one that is open.

        Raises:
            Denied: GitLab left the label out, as it does for Guests: the issue would never be found again.
        """
        with self._errors("write an issue", "Reporter"):
            found = self._own_issue(label, title)
            if found is None:
                found = self._open_issue(label, title, description)
            elif found.description != description:
                found.description = description
                found.save()
            return _issue(found)

    def _open_issue(self, label: str, title: str, description: str) -> Any:
        made = self._project.issues.create({"title": title, "description": description, "labels": [label]})
        if label not in made.labels:
            made.state_event = "close"
            made.save()
            raise Denied(
                f"GitLab opened an issue in {self.path} without its label {label}, and it was closed again",
                hint=f"give {self.variable} the role Reporter",
            )
        return made

    def close_issue(self, label: str, title: str, note: str) -> Issue | None:
        """Close our open issue with a last note, which a run that is repeated does not write twice; None without one."""
        with self._errors("close an issue", "Reporter"):
            found = self._own_issue(label, title)
            if found is None:
                return None
            note = _stored(note)
            if not any(self._is_own(row) and row.body == note for row in found.notes.list(iterator=True)):
                found.notes.create({"body": note})
            found.state_event = "close"
            found.save()
            return _issue(found)

    def _own_issue(self, label: str, title: str) -> Any:
        rows = self._project.issues.list(
            labels=[label], state="opened", author_id=self._me, sort="asc", per_page=100, iterator=True
        )
        return next((row for row in rows if row.title == title), None)

    # Generic packages --------------------------------------------------------------------------------------

    def package_file(self, name: str, version: str, file: str, most: int) -> bytes | None:
        """The newest file of this name in a generic package, or None (docs: GitLab generic packages repository).

        Raises:
            PipelineError: it has more than `most` bytes; no more than these are read.
        """
        with (
            self._errors(f"read package {name} {version}", "Reporter"),
            self._download(self._file(name, version, file)) as answer,
        ):
            if answer.status_code == HTTPStatus.NOT_FOUND:
                return None
            return _read(answer, most, f"{file} of package {name} {version} in {self.path}")

    @contextmanager
    def _download(self, path: str) -> Iterator[requests.Response]:
        """The answer, its body unread.

        GitLab may redirect to its object storage, whose address is signed: our token does not go there.
        """
        plain = http.session()
        url = f"{self._client.api_url}{path}"
        first = plain.get(url, headers=self._headers, stream=True, allow_redirects=False)
        with closing(plain), closing(first):
            if not first.is_redirect:
                yield first
                return
            with closing(plain.get(urljoin(url, first.headers["Location"]), stream=True)) as answer:
                yield answer

    def write_package_file(self, name: str, version: str, file: str, content: bytes) -> None:
        """Put a file of at least one byte into a generic package.

        Of several with one name the newest counts, so that it may be sent again.
        """
        with self._errors(f"write package {name} {version}", "Developer"):
            self._client.http_request("put", self._file(name, version, file), post_data=content, raw=True)

    def _file(self, *words: str) -> str:
        names = "/".join(EncodedId(word) for word in words)
        return f"/projects/{self._project.encoded_id}/packages/generic/{names}"


def _merge_request(row: Any) -> MergeRequest:
    return MergeRequest(
        row["iid"],
        row["state"],
        row["source_branch"],
        row["target_branch"],
        row["web_url"],
        row["sha"],
        row["merge_commit_sha"],
        row.get("squash_commit_sha"),
    )


def _note(found: Any, place: Any) -> Note:
    return Note(found.id, found.body, f"{place.web_url}#note_{found.id}")


def _issue(found: Any) -> Issue:
    return Issue(found.iid, found.title, found.description or "", found.state, found.web_url)


def _stored(body: str) -> str:
    """A note as GitLab keeps it (`lib/gitlab/quick_actions/extractor.rb`), so that an equal one is known as equal."""
    return body.replace("\r", "").rstrip()


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _read(answer: requests.Response, most: int, what: str) -> bytes:
    if not answer.ok:
        said = answer.raw.read(CHUNK, decode_content=True).decode(errors="replace")
        raise GitlabHttpError(said.strip(), response_code=answer.status_code)
    content = bytearray()
    for chunk in answer.iter_content(CHUNK):
        content += chunk
        if len(content) > most:
            raise PipelineError(
                f"{what} has more than {most} bytes", hint="not written by this toolkit? delete it there"
            )
    return bytes(content)
