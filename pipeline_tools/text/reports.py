"""GitLab's report files from a receipt (docs.gitlab.com/ci/yaml/artifacts_reports)."""

import json
from typing import TYPE_CHECKING, Any

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable


def render(kind: str, receipt: Receipt) -> str:
    """The report of a kind: `dotenv` or `annotations`.

    Raises:
        PipelineError: there is no such kind.
    """
    kinds: dict[str, Callable[[Receipt], str]] = {"dotenv": dotenv, "annotations": annotations}
    if kind not in kinds:
        raise PipelineError(
            f"--report knows {', '.join(kinds)}, not {kind!r}", hint="write --report dotenv=FILE"
        )
    return kinds[kind](receipt)


def dotenv(receipt: Receipt) -> str:
    """At most eight `RELEASE_*` variables for the user's own jobs; ours never read them."""
    tag, push, bump, trigger = receipt.tag, receipt.push, receipt.bump, receipt.trigger
    values = {
        "RELEASE_TAG": tag and tag.name,
        "RELEASE_VERSION": tag and tag.version,
        "RELEASE_COMMIT": tag and tag.commit,
        "RELEASE_IMAGE": push and f"{push.repository}:{push.tag}",
        "RELEASE_DIGEST": push and push.digest,
        "RELEASE_ENV_COMMIT": bump and bump.commit,
        "RELEASE_PIPELINE_ID": trigger and trigger.pipeline,
        "RELEASE_PIPELINE_URL": trigger and trigger.url,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items() if value)


def annotations(receipt: Receipt) -> str:
    """Links for the job's page."""
    links: list[dict[str, Any]] = []
    bump = receipt.bump
    if bump and bump.pending and bump.url:
        label = f"Merge request !{bump.merge_request} of {bump.project}"
        links.append({"external_link": {"label": label, "url": bump.url}})
    if receipt.trigger and receipt.trigger.pipeline and receipt.trigger.url:
        label = f"Pipeline {receipt.trigger.pipeline} of {receipt.trigger.project}"
        links.append({"external_link": {"label": label, "url": receipt.trigger.url}})
    return json.dumps({"release": links}) + "\n"
