"""What a reviewer of a Kapsule cluster is told, and when nothing is."""

from typing import Any

import pytest

from pipeline_tools.text import terraform_kapsule
from pipeline_tools.text.terraform_kapsule import Note, Severity
from tests.text.plans import resource, summarised

CLUSTER = "scaleway_k8s_cluster.main"
POOL = "scaleway_k8s_pool.main"
ACL = "scaleway_k8s_acl.main"
REPLACE = ["delete", "create"]


def notes(*changes: dict[str, Any], **rest: Any) -> tuple[Note, ...]:
    return terraform_kapsule.notes(summarised(*changes, **rest))


def acl(ip: str) -> dict[str, Any]:
    return resource(ACL, ["create"], after={"acl_rules": [{"ip": "10.0.0.0/8"}, {"ip": ip}]})


def output(references: list[str], name: str = "access", **change: Any) -> dict[str, Any]:
    return {
        "output_changes": {name: {"actions": ["create"], "before": None, **change}},
        "configuration": {"root_module": {"outputs": {name: {"expression": {"references": references}}}}},
    }


@pytest.mark.parametrize(
    ("change", "severity", "words", "hint"),
    [
        (resource(POOL, REPLACE, replace_paths=[["node_type"]]), "danger", "node type", "second pool"),
        (resource(POOL, REPLACE, replace_paths=[["zone"]]), "danger", "the pool is replaced", "second pool"),
        (
            resource(POOL, ["create", "delete"], replace_paths=[["node_type"]]),
            "warning",
            "comes first",
            "the name",
        ),
        (
            resource(CLUSTER, ["delete"], before={"delete_additional_resources": True}),
            "danger",
            "go with",
            "false",
        ),
        (
            resource(
                CLUSTER,
                before={"delete_additional_resources": False},
                after={"delete_additional_resources": True},
            ),
            "warning",
            "becomes true",
            "set it to false",
        ),
        (
            resource(CLUSTER, before={"version": "1.32.3"}, after={"version": "1.9.1"}),
            "danger",
            "goes down",
            "keep",
        ),
        (
            resource(CLUSTER, before={"version": "1.32.3"}, after={"version": "1.32.1"}),
            "danger",
            "goes down",
            "keep",
        ),
        (
            resource(CLUSTER, before={}, after={"auto_upgrade": [{"enable": True}]}),
            "notice",
            "upgrades patch versions",
            "minor one",
        ),
        (acl("0.0.0.0/0"), "danger", "to the world", "name the ranges"),
        (acl("::/0"), "danger", "to the world", "name the ranges"),
        (resource(ACL, ["delete"], before={}), "danger", "open to the world again", "keep an ACL"),
        (resource(CLUSTER, ["create"], after={}), "warning", "until it has a scaleway_k8s_acl", "add a"),
    ],
)
def test_each_rule(change: dict[str, Any], severity: str, words: str, hint: str) -> None:
    (found,) = notes(change)
    assert (found.address, found.severity) == (change["address"], severity)
    assert words in found.line
    assert hint in found.hint


@pytest.mark.parametrize("cause", ["cni", "private_network_id", "type"])
def test_a_replaced_cluster(cause: str) -> None:
    kept = {"delete_additional_resources": True}
    change = resource(
        CLUSTER, REPLACE, before={cause: "a", **kept}, after={cause: "b", **kept}, replace_paths=[[cause]]
    )
    found = notes(change, acl("10.0.0.0/8"))
    assert {note.severity for note in found} == {Severity.DANGER}
    lines = " ".join(note.line for note in found)
    assert "the cluster is replaced with all that runs on it" in lines
    # It does not change, and still says what else goes.
    assert "delete_additional_resources is true" in lines


@pytest.mark.parametrize(
    "rest",
    [
        output(["scaleway_k8s_cluster.main.kubeconfig[0].token", "scaleway_k8s_cluster.main"], after="t"),
        output(["module.cluster.kubeconfig"], after_unknown=True),
        output([], after={"config_file": "x"}, after_sensitive={"config_file": True}),
        output([], name="kube_config", after="x", after_sensitive=True),
    ],
)
def test_a_kubeconfig_in_the_outputs(rest: dict[str, Any]) -> None:
    (found,) = notes(**rest)
    assert found.severity is Severity.DANGER
    assert "kubeconfig" in found.line


@pytest.mark.parametrize(
    "change",
    [
        resource(POOL, before={"size": 1}, after={"size": 2}),
        resource(POOL, ["create"], after={"node_type": "DEV1-M"}),
        resource(CLUSTER, before={"version": "1.9.3"}, after={"version": "1.32.0"}),
        resource(CLUSTER, before={"version": "1.32.3"}, after={"version": "1.32"}),
        resource(CLUSTER, ["delete"], before={"delete_additional_resources": False}),
        resource(
            f"data.{CLUSTER}", ["read"], mode="data", type="scaleway_k8s_cluster", after={"cni": "cilium"}
        ),
        acl("192.0.2.0/24"),
        acl("not a range"),
        resource("scaleway_rdb_acl.main", ["create"], after={"acl_rules": [{"ip": "0.0.0.0/0"}]}),
    ],
)
def test_nothing_to_say(change: dict[str, Any]) -> None:
    assert notes(change) == ()


def test_a_cluster_with_its_acl_and_outputs_without_credentials() -> None:
    created = resource(CLUSTER, ["create"], after={"delete_additional_resources": False})
    assert notes(created, acl("192.0.2.0/24"), **output(["scaleway_k8s_cluster.main.id"], after="x")) == ()


def test_the_gravest_stand_first() -> None:
    found = notes(
        resource(CLUSTER, ["create"], after={"auto_upgrade": [{"enable": True}]}),
        resource(POOL, REPLACE, replace_paths=[["node_type"]]),
    )
    assert [note.severity for note in found] == [Severity.DANGER, Severity.WARNING, Severity.NOTICE]
