"""What Terraform prints when it fails, as the error that a person or a template can act on.

Terraform has no codes for its errors; the words are those of 1.11, each of which was met in a test or in its source.
"""

import re
from dataclasses import dataclass

from pipeline_tools.errors import Denied, PipelineError, Unavailable


@dataclass(frozen=True)
class Lock:
    """Who holds a state's lock, in Terraform's own words (`statemgr.LockInfo`); empty where the backend does not say.

    GitLab knows ID, user and time (`created`); `who` is then a GitLab user, elsewhere `user@host`.
    """

    id: str
    operation: str = ""
    who: str = ""
    version: str = ""
    created: str = ""
    info: str = ""

    def __str__(self) -> str:
        since = f" since {self.created}" if self.created else ""
        what = ", ".join(word for word in (self.operation, f"lock {self.id}") if word)
        return f"{self.who or 'somebody'}{since} ({what})"


class Locked(Unavailable):
    """Somebody else holds the state's lock."""

    def __init__(self, head: str, lock: Lock) -> None:
        super().__init__(
            f"{head}\nthe state is locked by {lock}",
            hint="wait for that job; if it is gone: pipeline-tools terraform unlock",
        )
        self.head, self.lock = head, lock


_KNOWN: tuple[tuple[str, type[PipelineError], str], ...] = (
    (
        r"requires auth|invalid auth|AccessDenied|403 Forbidden|StatusCode: 403|401 Unauthorized|SignatureDoesNotMatch",
        Denied,
        "may this job's credentials read and write the state? GitLab: Developer to plan, Maintainer to apply",
    ),
    (
        r"(provider packages|available versions|install provider).*(connection refused|no such host|dial tcp|time-?out)",
        Unavailable,
        "can this job reach the provider's registry, or a mirror of it (TF_CLI_CONFIG_FILE)? Run it again",
    ),
    (
        r"giving up after|connection refused|no such host|TLS handshake timeout|Unexpected HTTP response code 5|StatusCode: (5|0)",
        Unavailable,
        "is the state's server up, and reachable from here? Run it again",
    ),
    (
        r"does not match any of the checksums|dependency lock file|lock file",
        PipelineError,
        "run terraform init and terraform providers lock for linux_amd64 on your machine, and commit .terraform.lock.hcl",
    ),
    (
        r"Failed to query available provider packages|Could not retrieve the list of available versions|registry",
        PipelineError,
        "can this job reach the provider's registry, or a mirror of it (TF_CLI_CONFIG_FILE)? Is the provider's name right?",
    ),
    (
        r"Invalid backend configuration argument|Unsupported backend|Backend type",
        PipelineError,
        "does the root's backend block fit --state?",
    ),
)
"""What Terraform says (on one line), and what it means for who reads our error; the first that fits."""


def failure(command: str, root: str, told: str, code: int) -> PipelineError:
    """The error of `terraform COMMAND` in a root that ended with `code` after it had `told` this."""
    text = plain(told)
    title = next((line for line in text.splitlines() if line.startswith("Error: ")), "")
    message = f"terraform {command} in {root} failed: {title.removeprefix('Error: ') or f'exit code {code}'}"
    held = lock(text)
    if held:
        return Locked(message, held)
    flat = " ".join(text.split())
    for pattern, kind, hint in _KNOWN:
        if re.search(pattern, flat):
            return kind(message, hint=hint)
    if not title:
        message += "\n" + "\n".join(text.splitlines()[-8:])
    return PipelineError(message, hint="Terraform's own words are above, or with -v")


_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"^[│╷╵|] ?", re.MULTILINE)
_FIELDS = re.compile(r"^\s*(ID|Operation|Who|Version|Created|Info):[ \t]*(.*?)[ \t]*$", re.MULTILINE)


def plain(told: str) -> str:
    """Terraform's text without colours, frames, and the JSON around it."""
    text = _FRAME.sub("", _ANSI.sub("", told))
    return text.replace("\\n", "\n") if '"@level"' in text else text


_HTTP_LOCK = re.compile(r"HTTP\s+remote\s+state\s+already\s+locked:\s+ID=(\S+)")
"""internal/backend/remote-state/http/client.go; for people Terraform breaks the line anywhere."""


def lock(text: str) -> Lock | None:
    """The holder in an `Error acquiring the state lock`; of an `http` backend's lock only the ID is the holder's."""
    _, found, block = text.partition("Lock Info:")
    if not found:
        return None
    held = _HTTP_LOCK.search(text)
    if held:
        return Lock(held[1])
    values = dict(_FIELDS.findall(block))
    names = ("ID", "Operation", "Who", "Version", "Created", "Info")
    return Lock(*(values.get(name, "") for name in names))
