"""Reading a binding file: its text, what is wrong with its parts, and what the parts must be to each other."""

import re
from collections.abc import Iterator
from itertools import chain

from pipeline_tools.text.binding import BUILD, SHARED, TOKEN_SECRET, Binding, Environment, Runner
from pipeline_tools.text.schema import Lines, Problem, accepted, load

Saying = tuple[str, str]
"""Where, and what is wrong there."""


def read(text: str) -> tuple[Binding | None, tuple[Problem, ...]]:
    """The binding of a file's text, and everything that is wrong with it, in the order of the lines."""
    binding, reader = load(Binding, text)
    found = list(reader.problems)
    if binding is not None:
        found += _cross(binding, reader.lines)
    return (None if found else binding), tuple(sorted(found))


def loads(text: str, path: str) -> Binding:
    """The binding of a file's text.

    Raises:
        PipelineError: something is wrong with it; the message names the first line of that, the hint the others.
    """
    return accepted(*read(text), path, "docs/reference/binding.md")


def _cross(binding: Binding, lines: Lines) -> Iterator[Problem]:
    said = chain(
        _reviewer(binding),
        _mounts(binding),
        _unique(binding),
        *(_environment(binding, environment) for environment in binding.environments),
    )
    for where, message in said:
        yield Problem(lines.of(where), where, message)


def _reviewer(binding: Binding) -> Iterator[Saying]:
    if binding.vault.reviewer.kind == TOKEN_SECRET and not (binding.cluster.endpoint and binding.cluster.ca):
        yield (
            "vault.reviewer.kind",
            "token-secret needs cluster.endpoint and cluster.ca: Vault asks from outside",
        )


def _mounts(binding: Binding) -> Iterator[Saying]:
    vault = binding.vault
    if vault.kubernetes_mount == vault.jwt_mount:
        yield "vault.jwt_mount", "is also the kubernetes_mount; each issuer has its own"
    for environment in binding.environments:
        for index, secrets in enumerate(environment.vault.secrets):
            if secrets.mount == vault.transit_mount:
                where = f"environments.{environment.name}.vault.secrets[{index}].mount"
                yield where, "is also vault.transit_mount"


def _unique(binding: Binding) -> Iterator[Saying]:
    """Environments are apart by namespace, account, role and policy; two that share one are not."""
    for what in ("namespace", "google_service_account", "vault.role", "vault.policy"):
        seen: dict[str, str] = {}
        for environment in binding.environments:
            value = _value(environment, what)
            if value in seen:
                yield (
                    f"environments.{environment.name}.{what}",
                    f"{value} is also that of {seen[value]}: nothing would keep the two apart",
                )
            seen[value] = environment.name
    yield from _shared_names(binding)
    yield from _shared_secrets(binding)


def _value(environment: Environment, what: str) -> str:
    owner = environment.vault if what.startswith("vault.") else environment
    return str(getattr(owner, what.rpartition(".")[2]))


def _shared_names(binding: Binding) -> Iterator[Saying]:
    """What is made from names (NAMESPACE-build, POLICY-jwt) may not be the name of something else."""
    namespaces = {environment.namespace for environment in binding.environments}
    policies = {environment.vault.policy for environment in binding.environments}
    for environment in binding.environments:
        prefix = f"environments.{environment.name}"
        if environment.namespace_of(BUILD) in namespaces:
            yield (
                f"{prefix}.namespace",
                f"{environment.namespace_of(BUILD)} is another environment's namespace",
            )
        if environment.vault.is_dual and environment.vault.jwt_policy in policies:
            yield f"{prefix}.vault.policy", f"{environment.vault.jwt_policy} is another environment's policy"


def _shared_secrets(binding: Binding) -> Iterator[Saying]:
    held: dict[tuple[str, str], str] = {}
    for environment in binding.environments:
        for index, secrets in enumerate(environment.vault.secrets):
            for number, path in enumerate(secrets.paths):
                for (mount, other), owner in held.items():
                    if owner != environment.name and mount == secrets.mount and _overlap(path, other):
                        yield (
                            f"environments.{environment.name}.vault.secrets[{index}].paths[{number}]",
                            f"{secrets.mount}/{path} is also read by {owner}, as {other}",
                        )
                held.setdefault((secrets.mount, path), environment.name)


def _overlap(path: str, other: str) -> bool:
    """Whether two paths, each of which may end in `/*`, have a secret in common."""
    short, long = sorted((path, other), key=len)
    if short.endswith("*"):
        return long.startswith(short[:-1])
    return path == other or (long.endswith("*") and short.startswith(long[:-1]))


def _environment(binding: Binding, environment: Environment) -> Iterator[Saying]:
    prefix = f"environments.{environment.name}"
    if environment.name == SHARED:
        yield prefix, "the name is kept for what all environments share"
    if environment.vault.max_ttl < environment.vault.ttl:
        yield f"{prefix}.vault.max_ttl", "is shorter than ttl"
    if not dict(environment.classes):
        yield f"{prefix}.classes", "needs at least one of deploy, build and apply"
    for kind, runner in environment.classes:
        yield from _runner(binding, runner, f"{prefix}.classes.{kind}")
    yield from _build(environment, f"{prefix}.classes.build")
    yield from _apply(binding, environment, f"{prefix}.classes.apply")


def _runner(binding: Binding, runner: Runner, prefix: str) -> Iterator[Saying]:
    pools = [pool.name for pool in binding.cluster.node_pools]
    if runner.node_pool not in pools:
        yield f"{prefix}.node_pool", f"{runner.node_pool} is none of cluster.node_pools ({', '.join(pools)})"
    if not any(admits(pattern, runner.image) for pattern in runner.allowed_images):
        yield f"{prefix}.image", f"{runner.image} matches none of allowed_images"


def admits(pattern: str, image: str) -> bool:
    """Whether an image pattern admits an image, as the runner says it: `*` ends at a slash, `**` does not.

    Source: gitlab-runner common/allowed_images.go, which matches with bmatcuk/doublestar.
    """
    parts = re.split(r"(\*+)", pattern)
    stars = {"*": "[^/]*"}
    translated = "".join(stars.get(part, ".*") if "*" in part else re.escape(part) for part in parts)
    return re.fullmatch(translated, image) is not None


def _build(environment: Environment, prefix: str) -> Iterator[Saying]:
    build = environment.classes.build
    if build is None:
        return
    for name in ("service_account", "google_service_account"):
        if not getattr(build, name):
            yield prefix, f"lacks {name}: a build has an account of its own"
        elif getattr(build, name) == getattr(environment, name):
            yield f"{prefix}.{name}", "is the environment's: a build would have what deploy jobs have"


def _apply(binding: Binding, environment: Environment, prefix: str) -> Iterator[Saying]:
    apply = environment.classes.apply
    if apply is None:
        return
    if apply.grace <= apply.longest:
        yield f"{prefix}.grace", f"{apply.grace} s is not longer than the longest apply ({apply.longest} s)"
    if any(pool.name == apply.node_pool and pool.spot for pool in binding.cluster.node_pools):
        yield f"{prefix}.node_pool", f"{apply.node_pool} is made of spot nodes: an apply would be cut off"
