"""What builders say when they fail, in our words."""

import re

from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable

_WRONG = re.compile(
    r"dockerfile parse error|failed to parse dockerfile|parsing main dockerfile|no contents in \""
    r"|resolving step \{|Build error: unknown instruction",
    re.IGNORECASE,
)
"""A Dockerfile that is none, in the words of docker 20.10, BuildKit and buildah 1.28."""

_INSTRUCTION = re.compile(r"returned a non-zero code|building at STEP|did not complete successfully")
_STATUS = r"\b(?:status|code|http|registry|error)\W{0,2}"
"""What stands before a status, so that a tag or a line's number is none."""
_DENIED = re.compile(
    r"unauthorized|denied|no basic auth credentials|authentication required|insufficient_scope"
    rf"|{_STATUS}40[13]\b|\b40[13]\W{{1,2}}(?:unauthorized|forbidden)",
    re.IGNORECASE,
)
AWAY = re.compile(
    r"connection (refused|reset|aborted)|no such file|no such host|timed? ?out|timeout|max retries|toomanyrequests"
    rf"|too many requests|{_STATUS}(429|50[0234])\b|internal server error|bad gateway|EOF|unavailable|broken pipe"
    r"|temporary failure|name resolution|lookup",
    re.IGNORECASE,
)
"""The words of what may be there the next time."""

_NO_GROUPS = "error setting supplemental groups list: operation not permitted"
"""What a RUN of buildah ends with in a user namespace of one id (user_namespaces(7), `setgroups`)."""

_IMMUTABLE = re.compile(r"immutab", re.IGNORECASE)


def said(what: str, message: str, last: str) -> PipelineError:
    """A builder's error in our words; `last` are the lines before it."""
    text = f"{what} failed: {message.strip()}"
    if _WRONG.search(message):
        # Before all others: words of the Dockerfile, its path and a line's number stand in the message.
        return PipelineError(f"{text}\n{last}".strip(), hint=_mended(message))
    if _NO_GROUPS in last:
        return PipelineError(
            f"{text}: without root this user has no other ids to run it with",
            hint="install uidmap (newuidmap) and give the user a range in /etc/subuid and /etc/subgid, or run as root",
        )
    if _INSTRUCTION.search(message):
        # An instruction's own words stand in the message, and may be any.
        return PipelineError(
            f"{text}\n{last}", hint="the lines above are the last of the build; -v shows all"
        )
    return _of_registry(text, message, last)


def _of_registry(text: str, message: str, last: str) -> PipelineError:
    if _IMMUTABLE.search(message):
        return Refused(text, hint="an immutable tag keeps its first image; see --candidate-repository")
    if _DENIED.search(message):
        return Denied(
            text,
            hint="is PT_REGISTRY_PASSWORD (or docker login) for that registry valid, with the right to push there? "
            "A protected variable is absent on an unprotected ref",
        )
    if AWAY.search(message):
        return Unavailable(text, hint="is the registry up, and reachable from the builder? Run it again")
    return PipelineError(f"{text}\n{last}".strip(), hint="-v shows all that the builder said")


def _mended(message: str) -> str:
    if "unknown instruction" in message.lower():
        return "is it a line of a here-document (RUN <<EOF)? Only BuildKit reads these: --builder buildkit"
    return "mend the Dockerfile; its reference is docs.docker.com/reference/dockerfile"
