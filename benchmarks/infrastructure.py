"""The Terraform stages beside bare Terraform."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyrage

from benchmarks.rows import Row, program, side_by_side
from sandbox import parts
from sandbox.gitlab import Access, Gitlab, Project

READ = """
import re, sys
{read}
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
OURS = "from pipeline_tools.text import terraform_plan\nterraform_plan.read(open(sys.argv[1], 'rb'))"
JSON = "import json\njson.load(open(sys.argv[1], 'rb'))"
MIB = 1024

EXPLANATION = """
`terraform plan` costs a fixed time beside bare Terraform, whatever the root: Python and its libraries, parsing the
configuration for its local modules, `terraform version` and `state pull` (a passport names the tool, the providers,
lineage and serial), and asking GitLab for a reviewed passport. Each change costs a fraction of a millisecond more, for
the summary, the passport and the note. The roots measured here ask no cloud about anything; a plan that does takes
longer for a single object than this for a thousand.
"""


def rows() -> list[Row]:
    """All of them, or none where Terraform is missing."""
    if problem := parts.TERRAFORM.problem():
        print(f"terraform: left out, {problem}")
        return []
    with tempfile.TemporaryDirectory() as name:
        return [*overhead(Path(name)), memory(Path(name))]


def overhead(directory: Path) -> list[Row]:
    """`terraform plan` as we run it, beside `init`, `plan` and `show -json`, with one object and with 2 000.

    Ours also reads version and state, parses the configuration, looks for a reviewed passport, and writes the
    encrypted plan, the passport and the note.
    """
    with Gitlab.start(directory / "gitlab") as gitlab:
        checkout, environment = _job(gitlab, directory)
        found = []
        for copies, what in (("1", "4 changes"), ("2000", "2 000 changes")):
            variables = {**environment, "TF_VAR_copies": copies}
            mine = program("pipeline-tools", "terraform", "plan", environment=variables, directory=checkout)
            pair = side_by_side(mine, _bare(checkout / "hello", variables), runs=5)
            found.append(Row(f"`terraform plan`, {what}", "bare init, plan and show -json", *pair))
        return found


def _job(gitlab: Gitlab, directory: Path) -> tuple[Path, dict[str, str]]:
    """A checkout of the example's small root, and the variables of a job in it."""
    source = directory / "infra"
    for name in ("hello", "modules"):
        shutil.copytree(parts.ROOT / "examples" / "infra" / name, source / name)
    (source / ".gitignore").write_text(".terraform/\nplans/\n")
    project = gitlab.create_project("platform/infra", source=source)
    checkout = directory / "checkout"
    subprocess.run(("git", "clone", "--quiet", str(project.repository), str(checkout)), check=True)
    return checkout, {**_environment(directory), **_variables(gitlab, project)}


def _environment(directory: Path) -> dict[str, str]:
    """Ours, without what a job or a person has set for Terraform and for us; with compiled modules, as pip leaves them."""
    foreign = ("CI_", "PT_", "GITLAB_", "TF_", "VAULT_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}


def _variables(gitlab: Gitlab, project: Project) -> dict[str, str]:
    token = gitlab.job_token(project, user_access={project.path: Access.MAINTAINER})
    return {
        "CI_JOB_TOKEN": token,
        "CI_SERVER_URL": gitlab.url,
        "CI_PROJECT_PATH": project.path,
        "PT_ROOT": "hello",
        "PT_PLAN_RECIPIENT": str(pyrage.x25519.Identity.generate().to_public()),
        "TF_HTTP_ADDRESS": f"{gitlab.url}/api/v4/projects/{project.id}/terraform/state/hello",
        "TF_HTTP_USERNAME": "gitlab-ci-token",
        "TF_HTTP_PASSWORD": token,
    }


def _bare(root: Path, environment: dict[str, str]) -> Callable[[], object]:
    file = root.parent.parent / "bare.tfplan"
    every = (
        ("init", "-input=false", "-reconfigure"),
        ("plan", "-input=false", "-lock=false", f"-out={file}"),
        ("show", "-json", str(file)),
    )

    def run() -> None:
        for words in every:
            subprocess.run(("terraform", *words), cwd=root, env=environment, check=True, capture_output=True)

    return run


def memory(directory: Path) -> Row:
    """A plan of 50 MB with 5 000 changes: the most that a process has in memory, ours and one that holds it."""
    file = directory / "plan.json"
    before = {f"attribute_{number}": {"name": "v" * 290} for number in range(16)}
    change = {
        "address": "x.y",
        "mode": "managed",
        "type": "x",
        "change": {
            "actions": ["update"],
            "before": before,
            "after": {k: {"name": "w" * 290} for k in before},
        },
    }
    document = {"format_version": "1.2", "resource_changes": [change] * 5000, "applyable": True}
    file.write_text(json.dumps(document))
    size = file.stat().st_size // 1_000_000
    return Row(
        f"a plan of {size} MB with 5 000 changes summarised: peak memory",
        "`json.load` of it",
        _peak(OURS, file),
        _peak(JSON, file),
        unit="MiB",
    )


def _peak(read: str, file: Path) -> float:
    argv = (sys.executable, "-c", READ.format(read=read), str(file))
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return int(re.findall(r"\d+", done.stdout)[-1]) / MIB
