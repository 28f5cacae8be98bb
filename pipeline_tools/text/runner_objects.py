"""Rules that a runner's Kubernetes objects and Vault roles break."""

import ipaddress
import json
from collections.abc import Iterator
from typing import Any

from pipeline_tools.text.located import Document
from pipeline_tools.text.runner_config import is_socket, table_in, tables_in
from pipeline_tools.text.runner_rules import Sighting

_METADATA = (("169.254.169.252", {987, 988}), ("169.254.169.254", {80, 8080}))


def kubernetes(document: Document) -> Iterator[Sighting]:
    """The rules that a Kubernetes object breaks."""
    kind = document.get("kind")
    if kind == "NetworkPolicy":
        rules = document.get("spec.egress")
        closes = "Egress" in str(document.get("spec.policyTypes")) or rules is not None
        if closes and not any(map(_opens, rules if isinstance(rules, list) else [])):
            yield "metadata-closed", "spec.egress" if rules is not None else "spec"
    text = json.dumps(document.value)
    if '"privileged": true' in text:
        yield "privileged", "spec"
    if is_socket(text):
        yield "docker-socket", "spec"


def _opens(rule: Any) -> bool:
    """Whether an egress rule lets a pod reach the metadata server, where it is with either dataplane."""
    if not isinstance(rule, dict):
        return False
    ports = {number for port in tables_in(rule, "ports") if isinstance(number := port.get("port"), int)}
    named = bool(rule.get("ports"))
    peers = tables_in(rule, "to")
    return any(
        (not named or needed <= ports)
        and (not peers or any(_covers(table_in(peer, "ipBlock"), address) for peer in peers))
        for address, needed in _METADATA
    )


def _covers(block: dict[str, Any], address: str) -> bool:
    def is_in(cidr: Any) -> bool:
        try:
            return ipaddress.ip_address(address) in ipaddress.ip_network(str(cidr))
        except ValueError:
            return False

    excepted = block.get("except")
    return is_in(block.get("cidr")) and not any(map(is_in, excepted if isinstance(excepted, list) else []))


def role(document: Document) -> Iterator[Sighting]:
    """The rules that a role of Vault's kubernetes or jwt auth method breaks."""
    found = document.value
    for key in ("token_ttl", "token_max_ttl"):
        if str(found.get(key, "0")) in {"0", "0s", ""}:
            yield "no-ttl", key
    for key in ("bound_service_account_names", "bound_service_account_namespaces", "bound_subject"):
        if "*" in json.dumps(found.get(key)):
            yield "wildcard-binding", key
    if not (found.get("audience") or found.get("bound_audiences")):
        yield "missing-audience", "bound_service_account_names"
