"""What builders say when they fail, in our words."""

import re

from pipeline_tools.errors import Denied, PipelineError, Refused, Unavailable

_INSTRUCTION = re.compile(r"returned a non-zero code|building at STEP|did not complete successfully")
_DENIED = re.compile(
    r"unauthorized|denied|no basic auth credentials|authentication required|insufficient_scope|\b40[13]\b",
    re.IGNORECASE,
)
AWAY = re.compile(
    r"connection (refused|reset|aborted)|no such file|no such host|timed? ?out|timeout|max retries|toomanyrequests"
    r"|too many requests|\b(429|50[0234])\b|EOF|unavailable|broken pipe|temporary failure|name resolution|lookup",
    re.IGNORECASE,
)
"""The words of what may be there the next time."""

_NO_GROUPS = "error setting supplemental groups list: operation not permitted"
"""What a RUN of buildah ends with in a user namespace of one id (user_namespaces(7), `setgroups`)."""

_IMMUTABLE = re.compile(r"immutab", re.IGNORECASE)


def said(what: str, message: str, last: str) -> PipelineError:
    """A builder's error in our words; `last` are the lines before it."""
    text = f"{what} failed: {message.strip()}"
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
