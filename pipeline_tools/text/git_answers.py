"""What git and the server behind it say when they do not do as asked, in the toolkit's words.

Only what kind of failure it is follows from the words. Whether a push failed at all does not: that is read from the tip.
"""

import re

from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable

_DENIED = re.compile(
    r"Authentication failed|HTTP Basic: Access denied|could not read (Username|Password)|returned error: 40[13]"
    r"|not allowed to|Permission denied|not found|does not appear to be a git repository|access rights",
    re.IGNORECASE,
)
_SSH = re.compile(
    r"^.*(Host key verification failed|Permission denied \(|no mutual signature).*$", re.MULTILINE
)
"""What ssh(1) says before git says that it could not read."""
_AWAY = re.compile(
    r"Could not resolve host|Failed to connect|Couldn't connect|Connection (refused|reset|timed out)|timed out"
    r"|returned error: (429|5\d\d)|early EOF|hung up unexpectedly|Operation too slow|RPC failed|unexpected disconnect",
    re.IGNORECASE,
)

_REDIRECT = re.compile(r"returned error: 30[12378]")
"""What git says of an HTTP redirect that it was told not to follow."""


def is_redirect(said: str) -> bool:
    """Whether git's error output means that the server is elsewhere."""
    return bool(_REDIRECT.search(said))


def failure(url: str, said: str) -> PipelineError | None:
    """What git's error output means, as far as the transport goes; None where it means something else."""
    if "could not read Username" in said or "could not read Password" in said:
        return Denied(
            f"{url} asks for a login, and there is none",
            hint="is the token's variable empty (PT_ENV_TOKEN for the env project)? A protected variable is absent on "
            "an unprotected ref",
        )
    if ssh := _SSH.search(said):
        return Denied(
            f"{url}: {ssh[0].strip()}",
            hint="is the server's key in known_hosts, and yours where ssh looks for it? GIT_SSH_COMMAND names others",
        )
    reason = next(
        (line for line in reversed(said.splitlines()) if line.startswith(("fatal:", "remote:"))), said
    )
    if _AWAY.search(said):
        return Unavailable(f"{url}: {reason}", hint="is the git server up, and reachable from here?")
    if _DENIED.search(said):
        return Denied(
            f"{url}: {reason}",
            hint="does the project exist, and does the token have the right scope and role "
            "(write_repository to push)? A protected variable is empty on an unprotected ref",
        )
    return None


def refusal(url: str, branch: str, said: str) -> PipelineError:
    """What the answer to a push means that did not move `branch` of `url`, nor did anybody else.

    A server hook of the project's own (docs.gitlab.com/administration/server_hooks, `GL-HOOK-ERR:`) is a rule, whatever
    it says; GitLab's "not allowed to" is a matter of rights; what else its checks decline is a push rule.
    """
    lines = [line.removeprefix("remote:").strip() for line in said.splitlines()]
    reason = next((line for line in lines if "GitLab:" in line or "GL-HOOK-ERR" in line), " ".join(lines))
    message = f"push to {branch} of {url} refused: {reason}"
    is_hook = "GL-HOOK-ERR" in said
    if not is_hook and ("not allowed to" in said or "protected branch" in said):
        return Denied(
            message,
            hint=f"allow the token of PT_ENV_TOKEN to push to {branch} (Settings > Repository > Protected "
            "branches), with scope write_repository",
        )
    if is_hook or "hook declined" in said:
        return Refused(message, hint="a push rule or hook of the env project says no")
    return failure(url, said) or PipelineError(
        message, hint="nothing was written; is the env project in order?"
    )
