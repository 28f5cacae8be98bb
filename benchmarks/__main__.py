"""`make bench`: ratios, side by side in one run, written to docs/benchmarks.md.

Machines are noisy, so nothing here is a test: each pair runs interleaved and the best of the runs counts.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import bumps, images, infrastructure
from benchmarks.rows import RUNS, Row, program, seconds, side_by_side
from pipeline_tools.text.masks import Mask, Secret
from sandbox import demo, parts
from sandbox.kubernetes_tokens import Cluster
from sandbox.openbao import OpenBao

PAGE = parts.ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Written by `make bench`; each row compares two things measured in one run; of times the best counts, of {runs} rounds for what is short and of
fewer for what is long. Seconds depend on the machine ({machine}), ratios much less.

| what | against | ours | theirs | ratio | goal |
|---|---|---|---|---|---|
"""


def start_up() -> list[Row]:
    """What a person or a job waits for before anything happens."""
    click = program("python", "-c", "import click")
    cases = {"--help": 1.5, "tag check --help": None, "bump --help": None, "release --help": None}
    return [
        Row(
            f"`pipeline-tools {words}`",
            '`python -c "import click"`',
            *side_by_side(program("pipeline-tools", *words.split()), click),
            goal,
        )
        for words, goal in cases.items()
    ]


def releases() -> list[Row]:
    """The example application's release, on the demo's servers; the pipeline is not awaited."""
    missing = [problem for part in demo.NEEDED if (problem := part.problem())]
    if missing:
        print("release: left out, " + "; ".join(missing))
        return []
    with tempfile.TemporaryDirectory() as directory, demo.opened(Path(directory) / "workspace") as world:
        world.shell.quietly("pipeline-tools", "tag", "create", "v1.0.0")
        world.shell.quietly("git", "fetch", "--quiet", "--tags")
        first = seconds(lambda: world.shell.quietly("pipeline-tools", "release"))
        again = min(seconds(lambda: world.shell.quietly("pipeline-tools", "release")) for _ in range(5))
    return [Row("`release` again, all done", "the first `release`", again, first)]


SCRIPT = """
import os, subprocess, sys
import hvac
client = hvac.Client(url=os.environ["VAULT_ADDR"])
role, mount = os.environ["PT_VAULT_ROLE"], os.environ["PT_VAULT_KUBERNETES_MOUNT"]
token = open(os.environ["PT_KUBERNETES_TOKEN_FILE"]).read()
client.auth.kubernetes.login(role, token, mount_point=mount)
values = {
    name: client.secrets.kv.v2.read_secret_version(name.lower(), raise_on_deleted_version=True)["data"]["data"]["it"]
    for name in ("A", "B", "C")
}
code = subprocess.run(["true"], env={**os.environ, **values}).returncode
client.auth.token.revoke_self()
sys.exit(code)
"""
"""What people write themselves: log in, read three secrets, run, revoke. No mask, no retries, no signals."""

AGENT = """
vault {{ address = "{url}" }}
auto_auth {{
  method "kubernetes" {{
    mount_path = "auth/kubernetes"
    config = {{ role = "bench", token_path = "{token}" }}
  }}
}}
template_config {{ exit_on_retry_failure = true }}
exec {{
  command = ["true"]
  restart_on_secret_changes = "never"
}}
"""
TEMPLATE = """
env_template "{name}" {{
  contents = "{{{{ with secret \\"secret/data/{path}\\" }}}}{{{{ .Data.data.it }}}}{{{{ end }}}}"
  error_on_missing_key = true
}}
"""


def lent() -> list[Row]:
    """Three secrets lent to `true`, as a Kubernetes service account, on a real OpenBao."""
    if problem := parts.OPENBAO.problem():
        print(f"vault: left out, {problem}")
        return []
    with tempfile.TemporaryDirectory() as name, OpenBao.start(Path(name)) as bao, Cluster.start() as cluster:
        directory = Path(name)
        environment = bound(bao, cluster, directory)
        agent = directory / "agent.hcl"
        templates = "".join(TEMPLATE.format(name=each, path=each.lower()) for each in "ABC")
        agent.write_text(AGENT.format(url=bao.url, token=directory / "token") + templates)
        wants = [f"--secret={each}=secret/{each.lower()}#it" for each in "ABC"]
        mine = program("pipeline-tools", "vault", "exec", *wants, "--", "true", environment=environment)
        script = program("python", "-c", SCRIPT, environment=environment)
        supervisor = program("bao", "agent", "-log-level=error", f"-config={agent}", environment=environment)
        what = "`vault exec -- true` with three secrets"
        return [
            Row(what, "a hand-written hvac script", *side_by_side(mine, script), 1.5),
            Row(what, "`bao agent` as supervisor", *side_by_side(mine, supervisor), 1.0),
        ]


def bound(bao: OpenBao, cluster: Cluster, directory: Path) -> dict[str, str]:
    """A role, its secrets, and the environment of its job."""
    client = bao.client()
    client.sys.enable_auth_method("kubernetes")
    bao.write(
        "auth/kubernetes/config",
        kubernetes_host=cluster.url,
        kubernetes_ca_cert=cluster.ca_certificate,
        token_reviewer_jwt=cluster.reviewer_token,
        disable_local_ca_jwt=True,
    )
    client.sys.create_or_update_policy("bench", 'path "secret/data/*" { capabilities = ["read"] }')
    bao.write(
        "auth/kubernetes/role/bench",
        bound_service_account_names=["job"],
        bound_service_account_namespaces=["ci"],
        audience="vault",
        token_policies=["bench"],
        token_ttl="10m",
    )
    for name in "abc":
        client.secrets.kv.v2.create_or_update_secret(name, {"it": f"the-secret-value-{name}"})
    (directory / "token").write_text(cluster.token("ci", "job", seconds=3600))
    return {
        **os.environ,
        "VAULT_ADDR": bao.url,
        "PT_VAULT_ROLE": "bench",
        "PT_VAULT_KUBERNETES_MOUNT": "kubernetes",
        "PT_KUBERNETES_TOKEN_FILE": str(directory / "token"),
    }


def masked() -> list[Row]:
    """A log of 32 MiB through the mask with 20 secrets, beside the 0.32 s that 100 MB/s takes."""
    mask = Mask()
    for number in range(20):
        mask.add(Secret(f"{number:02}{hashlib.sha256(bytes([number])).hexdigest()}"))
    line = b"module.cluster.scaleway_k8s_pool.pool[0]: Still creating... [2m10s elapsed]\n"
    log = line * (32 * 1024 * 1024 // len(line))
    chunks = [log[at : at + 65536] for at in range(0, len(log), 65536)]

    def run() -> None:
        stream = mask.stream()
        for chunk in chunks:
            stream.feed(chunk)

    best = min(seconds(run) for _ in range(5))
    return [Row("the mask: 32 MiB, 20 secrets", "100 MB/s", best, len(log) / 1e8, 1.0)]


def main() -> None:
    """Measure, print and write the page."""
    with tempfile.TemporaryDirectory() as bytecode:
        # Compiled modules, as pip installs them; a checkout may have none.
        os.environ["PYTHONPYCACHEPREFIX"] = bytecode
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        try:
            _measure()
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error}\n{error.stderr or ''}")


def _measure() -> None:
    machine = f"Python {platform.python_version()}, {platform.machine()}"
    rows: list[Row] = []
    for measure in (start_up, masked, lent, releases, bumps.rows, images.rows, infrastructure.rows):
        measured = measure()
        print(*(row.markdown() for row in measured), sep="\n", flush=True)
        rows += measured
    table = "\n".join(row.markdown() for row in rows)
    text = f"{INTRODUCTION.format(runs=RUNS, machine=machine)}{table}\n{infrastructure.EXPLANATION}"
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
