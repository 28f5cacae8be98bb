"""Outside values in messages."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printed(text: str) -> str:
    """`text` for a terminal or a job log: line ends and tabs stay, other control characters are escaped.

    So no tag, commit message or server's answer can move the cursor, open a section of the job log (ESC and CR;
    docs.gitlab.com/ci/jobs/job_logs) or turn the direction of what follows.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def printable(text: str, limit: int = 60) -> str:
    """`text` quoted for a one-line message: control and non-ASCII characters escaped, long text cut."""
    quoted = ascii(text)
    return quoted if len(quoted) <= limit else quoted[:limit] + "…'"
