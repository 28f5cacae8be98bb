"""The prove step: with a token that has just an environment's policies, Vault itself says what it may not do.

A token of each policy is made, asked for its capabilities, and revoked. What it must not reach: every other
environment's secrets and key; and with dual proof each half what only the other half may.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.steps.shape import Status, Step
from pipeline_tools.text import vault_objects

if TYPE_CHECKING:
    from pipeline_tools.adapters.vault import Vault
    from pipeline_tools.text.binding import Binding

PRIVATE = {"private": True}
SECONDS = 60
NOTHING = frozenset({"deny"})


@dataclass(frozen=True)
class Request:
    """Prove that these environments are apart from all others of the binding."""

    binding: "Binding"
    environments: tuple[str, ...]


@dataclass(frozen=True)
class Ports:
    """`vault` may make tokens with the policies."""

    vault: "Vault"


@dataclass(frozen=True)
class Proof:
    """A token with `policy` may use each of `allowed`, and has no capability at all on `denied`."""

    policy: str
    allowed: tuple[str, ...]
    denied: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How many paths were refused to each policy."""

    status: Status
    refused: tuple[tuple[str, int], ...]

    def summary(self) -> str:
        return "; ".join(f"{policy}: {count} paths of others refused" for policy, count in self.refused)


@dataclass(frozen=True)
class Plan:
    """What will be asked."""

    status: Status
    proofs: tuple[Proof, ...]
    unread: tuple[PipelineError, ...] = field(default=(), metadata=PRIVATE)

    def lines(self) -> Iterator[str]:
        for proof in self.proofs:
            yield f"? a token with {proof.policy} cannot reach {len(proof.denied)} paths of others"

    def foreseen(self) -> Outcome:
        return Outcome(self.status, tuple((proof.policy, len(proof.denied)) for proof in self.proofs))


def facts(request: Request, ports: Ports) -> None:  # noqa: ARG001 (the binding says it all)
    return None


def plan(request: Request, facts: None) -> Plan:  # noqa: ARG001 (the binding says it all)
    """Every policy of the environments against every path of the binding that is another policy's."""
    binding = request.binding
    reach = {
        policy: frozenset(rule.path for rule in rules if rule not in vault_objects.OWN_TOKEN)
        for environment in binding.environments
        for policy, rules in vault_objects.policies(binding, environment).items()
    }
    everything = frozenset(path for paths in reach.values() for path in paths)
    ours = {
        policy
        for name in request.environments
        for policy in vault_objects.policies(binding, binding.environment(name))
    }
    proofs = tuple(
        Proof(policy, _asked(reach[policy]), _asked(everything - reach[policy])) for policy in sorted(ours)
    )
    return Plan(Status.PLANNED, proofs)


def _asked(paths: frozenset[str]) -> tuple[str, ...]:
    """Paths to ask for: a glob by one that it covers."""
    return tuple(sorted(f"{path[:-1]}any" if path.endswith("*") else path for path in paths))


def check(plan: Plan, ports: Ports) -> Plan:  # noqa: ARG001 (asking needs a token, which is written)
    return plan


def apply(plan: Plan, ports: Ports) -> Outcome:
    """Ask Vault.

    Raises:
        PipelineError: a token reaches what is another's, or not what is its own.
        Denied: no token with that policy can be made with the one that was given.
    """
    for proof in plan.proofs:
        found = _capabilities(ports.vault, proof)
        reached = [path for path in proof.denied if found[path] != NOTHING]
        lacking = [path for path in proof.allowed if found[path] == NOTHING]
        if reached or lacking:
            raise PipelineError(
                f"a token with {proof.policy} "
                + (f"reaches {', '.join(reached)}" if reached else f"does not reach {', '.join(lacking)}"),
                hint="another binding's or a hand-written policy of that name? compare: runner bind --check",
            )
    return Outcome(Status.DONE, tuple((proof.policy, len(proof.denied)) for proof in plan.proofs))


def _capabilities(vault: "Vault", proof: Proof) -> dict[str, frozenset[str]]:
    """What a token with this one policy may do at each path (vault/api-docs/system/capabilities-accessor)."""
    try:
        answer = vault.write(
            "auth/token/create",
            policies=[proof.policy],
            no_default_policy=True,
            ttl=f"{SECONDS}s",
            explicit_max_ttl=f"{SECONDS}s",
            renewable=False,
            display_name="runner-bind-proof",
        )
    except Denied as error:
        raise Denied(
            f"bound, but not proved: {error.message}",
            hint="the proof makes a token with that policy: sudo on auth/token/create, or skip it with --no-prove",
        ) from None
    accessor, paths = answer["auth"]["accessor"], [*proof.allowed, *proof.denied]
    try:
        said = vault.write("sys/capabilities-accessor", accessor=accessor, paths=paths)
    finally:
        vault.write("auth/token/revoke-accessor", accessor=accessor)
    found = said.get("data") or said
    return {path: frozenset(found.get(path) or NOTHING) for path in paths}


STEP = Step("prove", facts, plan, check, apply)
