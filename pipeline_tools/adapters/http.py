"""The one session factory: time-outs, retries with jitter, `Retry-After`; and errors in our words."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from pipeline_tools.errors import Denied, Unavailable
from pipeline_tools.text import references

log = logging.getLogger(__name__)

CONNECT, READ = 10.0, 60.0
"""Seconds to connect, and seconds without a byte."""

RETRIES = 4
LONGEST_WAIT = 60
"""Seconds that a `Retry-After` is waited for at most: who asks for hours would hold up a job until its own time-out."""
CONNECTS = 2
"""How often more a connection is tried: who is not there at all seldom comes within seconds."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
PASSING = frozenset({408, 429, 500, 502, 503, 504})


class _Adapter(HTTPAdapter):
    """An adapter whose requests always have a time-out."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT, READ)
        response = super().send(request, *args, **kwargs)
        if "Retry-After" in response.headers:
            # python-gitlab sleeps as long as this says, before it sends a POST again, and knows no dates.
            response.headers["Retry-After"] = str(math.ceil(retry_after(response)))
        log.debug("%s %s → %s", request.method, urlsplit(str(request.url)).path, response.status_code)
        return response


class _SameOrigin(requests.Session):
    """A session that follows no redirect to another host."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target and references.origin(urljoin(resp.url, target)) != references.origin(resp.url):
            resp.close()
            raise Denied(
                f"{references.origin(resp.url)} redirects to {references.origin(target)}: no token goes there",
                hint="name the instance by the address that it uses itself, as in --gitlab-url or --vault-address",
            )
        return target


def session(
    *, backoff: float = 0.3, retries: int = RETRIES, stays: bool = False, statuses: frozenset[int] = PASSING
) -> requests.Session:
    """A session that tries idempotent requests up to five times; a POST goes out once (look, then create).

    Args:
        backoff: seconds before the second try, doubled each time, with as much jitter.
        retries: 0 for what cannot be sent twice, such as a stream.
        statuses: what an answer may have to be tried again; empty for a caller that looks at them itself.
        stays: whether a redirect to another host is an error: requests takes away only `Authorization`, and
            GitLab's tokens travel in headers and bodies of their own.

    Under it, requests raises `RetryError` when the tries are used up (`errors` says it in our words).
    """
    retry = Retry(
        total=retries,
        connect=min(retries, CONNECTS),
        backoff_factor=backoff,
        backoff_jitter=backoff,
        status_forcelist=statuses,
        allowed_methods=_IDEMPOTENT,
        respect_retry_after_header=True,
        retry_after_max=LONGEST_WAIT,
    )
    made = _SameOrigin() if stays else requests.Session()
    made.mount("http://", _Adapter(max_retries=retry))
    made.mount("https://", _Adapter(max_retries=retry))
    return made


def retry_after(answer: requests.Response) -> float:
    """The seconds that an answer asks to wait (RFC 9110, 10.2.3), 0 where it asks for none; no more than a minute."""
    with suppress(InvalidHeader):
        asked = answer.headers.get("Retry-After")
        return Retry(retry_after_max=LONGEST_WAIT).parse_retry_after(asked) if asked else 0.0
    return 0.0


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Say transport failures as `Unavailable`; `what` names the other side.

    Raises:
        Unavailable: no connection, a time-out, a broken answer, or still an error status after the retries.
    """
    try:
        yield
    except requests.RequestException as error:
        raise Unavailable(
            f"{what}: {reason(error)}", hint=f"is {what} up, and reachable from here?"
        ) from None


def reason(error: BaseException) -> str:
    """The innermost cause in a few words; urllib3's own text repeats the whole request."""
    cause: Any = error
    while inner := getattr(cause, "reason", None) or next(
        (arg for arg in getattr(cause, "args", ()) if isinstance(arg, BaseException)), None
    ):
        cause = inner
    text = str(cause).rpartition(": ")[2] or type(cause).__name__
    return text.strip("'\") ")[:200]
