"""What a reviewer of a Kapsule cluster should know about a plan.

Facts: the Scaleway provider's documentation (2.81; docs/resources/k8s_cluster.md, k8s_pool.md with "Changing the
node-type of a pool", k8s_acl.md) and its issue 2214 (a private network deleted with the cluster).
The lines are constants: no value of the plan stands in them, so a note may print them as they are.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pipeline_tools.text.terraform_plan import Action, Change, Output, Summary

CLUSTER, POOL, ACL = "scaleway_k8s_cluster", "scaleway_k8s_pool", "scaleway_k8s_acl"
_DESTROYED = frozenset({Action.DELETE, Action.REPLACE})
_CREATED = frozenset({Action.CREATE, Action.REPLACE})
_CREDENTIAL = re.compile(r"kube_?config|config_file", re.IGNORECASE)


class Severity(StrEnum):
    """How much a reviewer should mind."""

    DANGER = "danger"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True)
class Note:
    """One thing to know about the object at `address`, and what to do about it."""

    address: str
    severity: Severity
    line: str
    hint: str


def notes(summary: Summary) -> tuple[Note, ...]:
    """The notes on a plan, the gravest first."""
    found = [note for change in summary.changes for note in _of_change(change)]
    found += _missing_acl(summary.changes)
    found += [note for output in summary.outputs for note in _of_output(output)]
    gravity = list(Severity)
    return tuple(sorted(found, key=lambda note: (gravity.index(note.severity), note.address)))


def _of_change(change: Change) -> Iterator[Note]:
    rules: dict[str, Callable[[Change], Iterator[Note]]] = {CLUSTER: _cluster, POOL: _pool, ACL: _acl}
    if change.mode == "managed" and change.type in rules:
        yield from rules[change.type](change)


def _pool(change: Change) -> Iterator[Note]:
    if change.action is not Action.REPLACE:
        return
    if "node_type" in change.replaced_by:
        line = "the node type changes, so the pool is replaced and all that runs on it moves"
    else:
        line = "the pool is replaced and all that runs on it moves"
    if change.actions == ("create", "delete"):
        yield Note(
            change.address,
            Severity.WARNING,
            f"{line}; the new pool comes first",
            "leave the name to be generated (two pools cannot share one), and see that pod disruption budgets are set",
        )
        return
    yield Note(
        change.address,
        Severity.DANGER,
        f"{line}; the old nodes go before the new ones come",
        "add a second pool beside it, drain the old nodes, then remove the old pool in a change of its own",
    )


def _cluster(change: Change) -> Iterator[Note]:
    yield from _replaced_cluster(change)
    yield from _additional_resources(change)
    before, after = _sides(change, "version")
    if before and after and _is_lower(after, before):
        yield Note(
            change.address,
            Severity.DANGER,
            "the Kubernetes version goes down, which Kapsule cannot do",
            "keep the version that runs; if auto upgrade raised it, write the minor version only",
        )
    if _sides(change, "auto_upgrade[0].enable")[1] == "true":
        yield Note(
            change.address,
            Severity.NOTICE,
            "Kapsule upgrades patch versions by itself from now on",
            "write the version as a minor one, such as 1.32, or each upgrade shows as drift",
        )


def _replaced_cluster(change: Change) -> Iterator[Note]:
    if change.action is not Action.REPLACE:
        return
    causes = {
        "cni": "the CNI changes, so the cluster is replaced with all that runs on it",
        "private_network_id": "the private network changes, so the cluster is replaced with all that runs on it",
    }
    line = next((causes[path] for path in change.replaced_by if path in causes), "")
    yield Note(
        change.address,
        Severity.DANGER,
        line or "the cluster is replaced with all that runs on it",
        "create a second cluster, move the workloads and their volumes, then remove the first one",
    )


def _additional_resources(change: Change) -> Iterator[Note]:
    before, after = _sides(change, "delete_additional_resources")
    if change.action in _DESTROYED and before == "true":
        yield Note(
            change.address,
            Severity.DANGER,
            "delete_additional_resources is true: volumes, load balancers and an empty private network go with the cluster",
            "apply delete_additional_resources = false first, in a change of its own",
        )
    elif after == "true":
        yield Note(
            change.address,
            Severity.WARNING,
            "delete_additional_resources becomes true: the cluster's end will be that of its volumes and network",
            "set it to false",
        )


def _acl(change: Change) -> Iterator[Note]:
    if change.action is Action.DELETE:
        yield Note(
            change.address,
            Severity.DANGER,
            "without its ACL the cluster's API is open to the world again",
            "keep an ACL with the ranges that need it, or no_ip_allowed = true",
        )
    elif any(_is_world(found.after) for found in change.attributes if found.path.endswith(".ip")):
        yield Note(
            change.address,
            Severity.DANGER,
            "the ACL opens the cluster's API to the world",
            "name the ranges that need it: offices, runners, scaleway_ranges",
        )


def _missing_acl(changes: tuple[Change, ...]) -> list[Note]:
    """Clusters that are created when not as many ACLs are: which ACL is whose, a plan of new ones cannot say."""
    created = [change for change in changes if change.type == CLUSTER and change.action in _CREATED]
    acls = sum(change.type == ACL and change.action in _CREATED for change in changes)
    if acls >= len(created):
        return []
    return [
        Note(
            change.address,
            Severity.WARNING,
            "a new cluster's API is open to the world until it has a scaleway_k8s_acl, and the plan has too few",
            "add a scaleway_k8s_acl for it",
        )
        for change in created
    ]


def _of_output(output: Output) -> Iterator[Note]:
    if output.actions == ("delete",):
        return
    words = (output.name, *output.references, *(found.path for found in output.attributes))
    if any(map(_CREDENTIAL.search, words)):
        yield Note(
            f"output.{output.name}",
            Severity.DANGER,
            "the output holds a kubeconfig, whose token is one of a cluster administrator",
            "output the cluster's id, and let whoever needs access fetch it with credentials of their own",
        )


def _sides(change: Change, path: str) -> tuple[str | None, str | None]:
    """Before and after of the attribute at `path`; None where it does not change."""
    return next(
        ((found.before, found.after) for found in change.attributes if found.path == path), (None, None)
    )


def _is_lower(version: str, than: str) -> bool:
    """As far as both say: 1.32 is not lower than 1.32.3, of which auto upgrade keeps the patch."""
    one, other = ([int(digits) for digits in re.findall(r"\d{1,9}", text)] for text in (version, than))
    known = min(len(one), len(other))
    return one[:known] < other[:known]


def _is_world(value: str | None) -> bool:
    """Whether the JSON text of a range is that of all addresses."""
    try:
        return ipaddress.ip_network((value or "").strip('"'), strict=False).prefixlen == 0
    except ValueError:
        return False
