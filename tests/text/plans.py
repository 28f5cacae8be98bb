"""Plans as `terraform show -json` prints them (format 1.2), made up and random."""

import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from pipeline_tools.text import terraform_plan
from pipeline_tools.text.passport import Made, Passport, State, Tool
from pipeline_tools.text.terraform_plan import Summary

KEY = b"the key of the test"
SECRET = "hunter2-planted"


def resource(
    address: str = "terraform_data.a", actions: Iterable[str] = ("update",), **rest: Any
) -> dict[str, Any]:
    """One of `resource_changes`; what belongs into its `change` is sorted into it."""
    outside = {"previous_address", "mode", "type", "action_reason", "deposed"}
    return {
        "address": address,
        "mode": "managed",
        "type": address.rpartition(".")[0].rpartition(".")[2],
        "change": {"actions": list(actions), **{k: v for k, v in rest.items() if k not in outside}},
        **{k: v for k, v in rest.items() if k in outside},
    }


def plan(*changes: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    head = {"format_version": "1.2", "terraform_version": "1.11.4", "planned_values": {}}
    return {**head, "resource_changes": list(changes), **rest}


def summary(made: Mapping[str, Any], key: bytes = KEY) -> Summary:
    return terraform_plan.read(io.BytesIO(json.dumps(made).encode()), key)


def summarised(*changes: Mapping[str, Any], key: bytes = KEY, **rest: Any) -> Summary:
    return summary(plan(*changes, **rest), key)


def passport_of(made: Summary, /, **rest: Any) -> Passport:
    given: dict[str, Any] = {
        "root": "infra/network",
        "mode": "normal",
        "trees": {"infra/network": "a" * 40, "modules/vpn": "b" * 40},
        "is_dirty": False,
        "lock_file": "sha256:" + "c" * 64,
        "state": State("http", "network", "0aa1", 7),
        "tool": Tool("terraform", "1.11.4"),
        "providers": {"registry/scaleway/scaleway": "2.81.0"},
        "plan": "sha256:" + "d" * 64,
        "made": Made("https://gitlab.example.com/p/1", "https://gitlab.example.com/j/1", "e" * 40, "main", 5),
    }
    return Passport(
        **{**given, **rest},
        changes=made.changes,
        outputs=made.outputs,
        drift=made.drift,
        counts=made.counts,
        has_unkeyed=made.has_unkeyed,
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)
ACTIONS = st.sampled_from(
    [["create"], ["update"], ["delete"], ["delete", "create"], ["create", "delete"], ["read"], ["forget"]]
)
RESOURCES = st.builds(
    resource,
    address=TEXTS,
    actions=ACTIONS,
    type=TEXTS,
    before=OBJECTS | st.none(),
    after=OBJECTS | st.none(),
    previous_address=st.none() | TEXTS,
    importing=st.none() | st.fixed_dictionaries({"id": TEXTS}),
    replace_paths=st.lists(st.lists(TEXTS | st.integers(0, 9), min_size=1, max_size=3), max_size=2),
)
OUTPUTS = st.dictionaries(
    TEXTS,
    st.builds(
        lambda before, after: {"actions": ["update"], "before": before, "after": after}, VALUES, VALUES
    ),
)
CHECKS = st.lists(
    st.builds(
        lambda name, status, problem: {
            "address": {"to_display": name},
            "status": status,
            "instances": [{"problems": [{"message": problem}]}],
        },
        TEXTS,
        st.sampled_from(["pass", "fail", "error", "unknown"]),
        TEXTS,
    ),
    max_size=2,
)
PLANS = st.builds(
    lambda changes, drift, deferred, outputs, checks: plan(
        *changes,
        resource_drift=drift,
        deferred_changes=[
            {"reason": "provider_config_unknown", "resource_change": item} for item in deferred
        ],
        output_changes=outputs,
        checks=checks,
    ),
    st.lists(RESOURCES, max_size=4),
    st.lists(RESOURCES, max_size=2),
    st.lists(RESOURCES, max_size=2),
    OUTPUTS,
    CHECKS,
)


def _with_secret(below: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    lists = st.lists(below, max_size=3).map(lambda pairs: ([v for v, _ in pairs], [m for _, m in pairs]))
    members = st.dictionaries(TEXTS, below, max_size=3)
    return lists | members.map(
        lambda pairs: ({k: v for k, (v, _) in pairs.items()}, {k: m for k, (_, m) in pairs.items()})
    )


PLANTED = TEXTS.map(lambda text: f"{text}{SECRET}")
MARKED = st.recursive(
    st.tuples(SCALARS, st.just(False)) | st.tuples(PLANTED | st.lists(PLANTED), st.just(True)),
    _with_secret,
    max_leaves=8,
)
MARKED_OBJECTS = st.dictionaries(TEXTS, MARKED, max_size=4).map(
    lambda pairs: ({k: v for k, (v, _) in pairs.items()}, {k: m for k, (_, m) in pairs.items()})
)
"""Values with a secret in them, and Terraform's mark on it."""


def marked_resource(
    before: tuple[Any, Any], after: tuple[Any, Any], actions: list[str], address: str
) -> dict[str, Any]:
    return resource(
        address,
        actions,
        before=before[0],
        before_sensitive=before[1],
        after=after[0],
        after_sensitive=after[1],
        type="t",
    )


MARKED_RESOURCES = st.builds(marked_resource, MARKED_OBJECTS, MARKED_OBJECTS, ACTIONS, TEXTS)
MARKED_PLANS = st.builds(
    lambda changes, drift, outputs: plan(
        *changes,
        resource_drift=drift,
        output_changes={
            name: {
                "actions": ["update"],
                "before": before[0],
                "before_sensitive": before[1],
                "after": after[0],
                "after_sensitive": after[1],
            }
            for name, (before, after) in outputs.items()
        },
    ),
    st.lists(MARKED_RESOURCES, max_size=3),
    st.lists(MARKED_RESOURCES, max_size=2),
    st.dictionaries(TEXTS, st.tuples(MARKED, MARKED), max_size=2),
)
