"""What a reviewed plan and a fresh one have in common, and what a plan destroys."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline_tools.text.passport import Passport, Verdict
from pipeline_tools.text.terraform_plan import Action, Change, Output
from pipeline_tools.text.terraform_values import Attribute

PROTECTED = frozenset(
    {
        # What holds data, addresses or workloads that no plan brings back. Scaleway provider 2.81, docs/resources.
        "scaleway_documentdb_instance",
        "scaleway_k8s_cluster",
        "scaleway_k8s_pool",
        "scaleway_mongodb_instance",
        "scaleway_object_bucket",
        "scaleway_rdb_database",
        "scaleway_rdb_instance",
        "scaleway_redis_cluster",
        "scaleway_s2s_vpn_connection",
        "scaleway_s2s_vpn_customer_gateway",
        "scaleway_s2s_vpn_gateway",
        "scaleway_s2s_vpn_routing_policy",
        "scaleway_sdb_sql_database",
        "scaleway_vpc",
        "scaleway_vpc_gateway_network",
        "scaleway_vpc_private_network",
        "scaleway_vpc_public_gateway",
        # Google provider, docs/r.
        "google_artifact_registry_repository",
        "google_compute_external_vpn_gateway",
        "google_compute_ha_vpn_gateway",
        "google_compute_network",
        "google_compute_router",
        "google_compute_router_interface",
        "google_compute_router_peer",
        "google_compute_subnetwork",
        "google_compute_vpn_gateway",
        "google_compute_vpn_tunnel",
        "google_container_cluster",
        "google_container_node_pool",
        "google_sql_database",
        "google_sql_database_instance",
    }
)
"""Types whose deletion or replacement always needs a person's word."""

_MOST_ATTRIBUTES = 5
"""Attributes that a line names."""


@dataclass(frozen=True)
class Comparison:
    """A fresh plan beside the reviewed one: the verdict, and a line for each thing that differs."""

    verdict: Verdict
    lines: tuple[str, ...]


def compare(reviewed: Passport, fresh: Passport) -> Comparison:
    """How `fresh` stands to `reviewed`.

    It is "as reviewed" only when nothing differs and all could be compared: where sensitive values change and no key
    hashed them, nothing can be said of them.
    """
    lines = tuple(_differences(reviewed, fresh))
    if lines:
        return Comparison(Verdict.DIFFERS, lines)
    if reviewed.has_unkeyed or fresh.has_unkeyed:
        return Comparison(Verdict.NOT_COMPARABLE, (_UNKEYED,))
    return Comparison(Verdict.AS_REVIEWED, ())


_UNKEYED = "sensitive values change, and without a key they cannot be compared"


def differences(reviewed: Passport, fresh: Passport) -> tuple[str, ...]:
    """A line for each thing that differs or cannot be compared; none means the same."""
    return compare(reviewed, fresh).lines


def _differences(reviewed: Passport, fresh: Passport) -> Iterator[str]:
    yield from _values({"root": reviewed.root}, {"root": fresh.root}, "")
    yield from _values({"mode": reviewed.mode}, {"mode": fresh.mode}, "")
    yield from _values(reviewed.trees, fresh.trees, "tree of ")
    if reviewed.is_dirty or fresh.is_dirty:
        yield "a plan was made from files that are not committed"
    yield from _values({"lock file": reviewed.lock_file}, {"lock file": fresh.lock_file}, "")
    yield from _values({"state": reviewed.state.lineage}, {"state": fresh.state.lineage}, "lineage of the ")
    yield from _values({reviewed.tool.name: reviewed.tool.version}, {fresh.tool.name: fresh.tool.version}, "")
    yield from _values(reviewed.providers, fresh.providers, "provider ")
    yield from _changes(reviewed.changes, fresh.changes)
    yield from _outputs(reviewed.outputs, fresh.outputs)


def _values(reviewed: Mapping[str, str], fresh: Mapping[str, str], what: str) -> Iterator[str]:
    for name in sorted({*reviewed, *fresh}):
        old, new = reviewed.get(name), fresh.get(name)
        if old != new:
            yield f"{what}{name}: reviewed {old or 'none'}, now {new or 'none'}"


def _changes(reviewed: Sequence[Change], fresh: Sequence[Change]) -> Iterator[str]:
    old, new = ({change.address: change for change in side} for side in (reviewed, fresh))
    for address in sorted({*old, *new}):
        one, other = old.get(address), new.get(address)
        if one is None or other is None:
            yield _only_one_side(one, other, address)
        elif one.actions != other.actions:
            yield f"{address}: reviewed {one.action}, now {other.action}"
        elif one != other:
            yield f"{address}: {other.action} differs in {_named(one.attributes, other.attributes)}"


def _only_one_side(one: Change | None, other: Change | None, address: str) -> str:
    if one:
        return f"{address}: reviewed {one.action}, no longer planned"
    return f"{address}: {other.action if other else ''} was not reviewed"


def _outputs(reviewed: Sequence[Output], fresh: Sequence[Output]) -> Iterator[str]:
    old, new = ({output.name: output for output in side} for side in (reviewed, fresh))
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one is None or other is None:
            yield f"output {name}: {'no longer planned' if one else 'was not reviewed'}"
        elif one.digest != other.digest:
            yield f"output {name}: differs"


def _named(one: Iterable[Attribute], other: Iterable[Attribute]) -> str:
    """The paths of the attributes that differ."""
    differing = sorted({found.path for found in {*one} ^ {*other}})
    if not differing:
        return "what is too long to be kept, or in why it is done"
    more = len(differing) - _MOST_ATTRIBUTES
    return ", ".join(differing[:_MOST_ATTRIBUTES]) + (f" and {more} more" if more > 0 else "")


def same_content(one: Passport, other: Passport) -> bool:
    """Whether two plans were made from the same configuration, for the same state."""
    return (one.root, one.trees, one.lock_file, one.state.name) == (
        other.root,
        other.trees,
        other.lock_file,
        other.state.name,
    )


@dataclass(frozen=True)
class Budget:
    """What a plan destroys, by address: it deletes, it replaces; and which of these are of protected types."""

    most: int
    deletions: tuple[str, ...]
    replacements: tuple[str, ...]
    protected: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        return not self.protected and len(self.deletions) + len(self.replacements) <= self.most

    @property
    def lines(self) -> tuple[str, ...]:
        """What is destroyed, for a person; the protected ones first."""
        kinds = {
            **dict.fromkeys(self.deletions, "is deleted"),
            **dict.fromkeys(self.replacements, "is replaced"),
        }
        protected = [f"{address} {kinds[address]}, and its type is protected" for address in self.protected]
        others = [f"{address} {kind}" for address, kind in kinds.items() if address not in self.protected]
        count = len(self.deletions) + len(self.replacements)
        over = [f"{count} deletions and replacements, {self.most} are allowed"] if count > self.most else []
        return (*over, *protected, *others)


def budget(changes: Iterable[Change], most: int, protected: frozenset[str] = PROTECTED) -> Budget:
    """What of `changes` counts against the `most` deletions and replacements, and against `protected` types."""
    destroyed = [change for change in changes if change.action in {Action.DELETE, Action.REPLACE}]
    return Budget(
        most,
        tuple(change.address for change in destroyed if change.action is Action.DELETE),
        tuple(change.address for change in destroyed if change.action is Action.REPLACE),
        tuple(change.address for change in destroyed if change.type in protected),
    )
