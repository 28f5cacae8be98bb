"""The Terraform commands on a root with a real provider, and on every place for its state."""

import json
from typing import Any

import pytest

from sandbox.google_storage import GoogleStorage
from sandbox.object_storage import ObjectStorage
from sandbox.terraform_provider import SOURCE, Cloud
from tests.infra_world import InfraWorld
from tests.terraform_root import Terraform
from tests.world import error

ROOT = f"""\
terraform {{
  required_version = ">= 1.11"
  required_providers {{
    cloud = {{
      source  = "{SOURCE}"
      version = "~> 1.0"
    }}
  }}
  backend "http" {{}}
}}

variable "size" {{
  default = 1
}}

resource "cloud_network" "net" {{
  name = "net"
}}

resource "cloud_server" "web" {{
  name   = "web"
  size   = var.size
  secret = "hush-hush"
  labels = {{
    network = cloud_network.net.id
  }}
}}
"""


@pytest.fixture
def clouded(infra: InfraWorld, cloud: Cloud) -> InfraWorld:
    """A root `cloud` with its lock file, applied."""
    infra.write("cloud/main.tf", ROOT)
    Terraform(infra.checkout / "cloud", cloud.variables).run("init", "-backend=false")
    infra.commit("a root with a provider")
    infra.main()
    infra.root = "cloud"
    infra.variables.update(cloud.variables)
    infra.run("plan")
    infra.run("apply")
    return infra


def test_the_passport_names_the_provider_and_its_lock_file(clouded: InfraWorld) -> None:
    paper = clouded.passport()
    assert paper["lock_file"].startswith("sha256:")
    assert list(paper["providers"]) == [SOURCE]
    assert paper["counts"]["create"] == 2


def test_the_checkout_is_clean_after_all_of_it(clouded: InfraWorld) -> None:
    said = clouded.json("plan")
    assert said["plan"]["differing"] == []
    assert not said["plan"]["passport"]["is_dirty"]


def test_what_was_changed_in_the_cloud_is_drift(clouded: InfraWorld, cloud: Cloud) -> None:
    cloud.change("web", size=7)
    said = clouded.json("drift", exit_code=6)
    assert said["result"]["drifted"] == ["cloud_server.web"]
    (issue,) = clouded.api.issues.list(state="opened", get_all=True)
    assert "Drift: changed outside Terraform" in issue.description
    assert "- size = 1" in issue.description
    assert cloud.named("web")["size"] == 7


def test_drift_and_new_configuration_are_told_apart(clouded: InfraWorld, cloud: Cloud) -> None:
    cloud.remove("web")
    clouded.write("cloud/more.tf", 'resource "cloud_network" "more" {\n  name = "more"\n}\n')
    clouded.commit("one more network")
    said = clouded.json("drift", exit_code=6)
    assert said["result"]["drifted"] == ["cloud_server.web"]
    assert said["result"]["unapplied"] == ["cloud_network.more"]


def test_a_replacement_names_what_forces_it_and_is_a_deletion(clouded: InfraWorld, cloud: Cloud) -> None:
    clouded.replace("cloud/main.tf", 'name   = "web"', 'name   = "www"')
    clouded.commit("another name")
    said = clouded.run("plan", "--report", "terraform=tf.json")
    assert "-/+ cloud_server.web, because of name" in said.stdout
    assert json.loads((clouded.checkout / "tf.json").read_text()) == {"create": 1, "update": 0, "delete": 1}
    message, _ = error(clouded.run("apply", exit_code=3))
    assert "destroys more" in message
    assert cloud.named("web")


def test_what_changed_in_the_cloud_after_the_plan_stops_the_plan(clouded: InfraWorld, cloud: Cloud) -> None:
    """Only the state's move is seen before an apply; that another apply has moved it is what happens most."""
    clouded.run("plan", TF_VAR_size="2")
    kept = {path: path.read_bytes() for path in (clouded.checkout / "plans" / "cloud").iterdir()}
    clouded.run("plan", TF_VAR_size="3")
    clouded.run("apply", TF_VAR_size="3")
    for path, content in kept.items():
        path.write_bytes(content)
    refused = clouded.run("apply", exit_code=3, TF_VAR_size="2")
    assert "cloud_server.web: update differs in size" in refused.stderr
    assert cloud.named("web")["size"] == 3


def test_a_moved_state_is_planned_again_and_applied_if_it_is_the_same(
    clouded: InfraWorld, cloud: Cloud
) -> None:
    clouded.write("cloud/more.tf", 'resource "cloud_network" "more" {\n  name = "more"\n}\n')
    clouded.commit("one more network")
    clouded.run("plan")
    # Somebody renames an output by hand: another serial, and nothing that this plan is about.
    terraform = Terraform(clouded.checkout / "cloud", {**cloud.variables, **_login(clouded)})
    state = json.loads(terraform.run("state", "pull"))
    state["serial"] += 5
    (clouded.checkout.parent / "pushed.tfstate").write_text(json.dumps(state))
    terraform.run("state", "push", str(clouded.checkout.parent / "pushed.tfstate"))
    said = clouded.json("apply")
    assert "planned again on the moved state: the same" in said["plan"]["said"]
    assert cloud.named("more")


def _login(infra: InfraWorld) -> dict[str, str]:
    job = infra.job("apply")
    return {"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": job["CI_JOB_TOKEN"]}


# Where the state is --------------------------------------------------------------------------------------------


def at(infra: InfraWorld, backend: str, place: str, variables: Any) -> None:
    """Plan, apply and look for drift with the state at another place."""
    infra.replace("hello/main.tf", 'backend "http" {}', f'backend "{backend}" {{}}')
    infra.commit("another backend")
    infra.main()
    infra.variables.update(variables)
    for command in ("plan", "apply", "drift"):
        infra.run(command, "--state", place)
    assert infra.state() is None


def test_scaleways_object_storage(infra: InfraWorld, object_storage: ObjectStorage) -> None:
    object_storage.create_bucket("states-of-tests")
    place = f"s3://states-of-tests/{{root}}.tfstate?endpoint={object_storage.url}"
    at(infra, "s3", place, object_storage.variables)
    state = json.loads(object_storage.read("states-of-tests", "hello.tfstate") or b"")
    assert state["outputs"]["greeting"]["value"] == "Hello world-dev from the house next door"
    assert object_storage.read("states-of-tests", "hello.tfstate.tflock") is None
    said = infra.json("unlock", "--state", place)
    assert (said["status"], said["result"]["said"]) == ("unchanged", "not locked")


def test_somebody_elses_lock_in_object_storage(infra: InfraWorld, object_storage: ObjectStorage) -> None:
    object_storage.create_bucket("locks-of-tests")
    place = f"s3://locks-of-tests/{{root}}.tfstate?endpoint={object_storage.url}"
    at(infra, "s3", place, object_storage.variables)
    lock = {"ID": "lock-1", "Operation": "OperationTypeApply", "Info": "", "Who": "anna@laptop",
            "Version": "1.11.4", "Created": "2026-01-01T00:00:00Z", "Path": "hello.tfstate"}  # fmt: skip
    object_storage.write("locks-of-tests", "hello.tfstate.tflock", json.dumps(lock).encode())
    infra.replace("hello/variables.tf", "default     = 1", "default     = 2")
    infra.commit("one more")
    infra.run("plan", "--state", place)
    message, hint = error(infra.run("apply", "--state", place, "--lock-timeout", "0", exit_code=5))
    assert "Error acquiring the state lock" in message
    assert "terraform unlock" in hint
    refused = infra.run("unlock", "--state", place, exit_code=3)
    assert "anna@laptop since 2026-01-01" in refused.stderr
    infra.run("unlock", "--state", place, "--force")
    infra.run("apply", "--state", place)


def test_google_cloud_storage(infra: InfraWorld, google_storage: GoogleStorage) -> None:
    at(infra, "gcs", "gs://states/prod/{root}", google_storage.variables)
    state = json.loads(google_storage.read("states", "prod/hello/default.tfstate") or b"")
    assert state["outputs"]["greeting"]["value"] == "Hello world-dev from the house next door"


def test_as_the_root_configures_it(infra: InfraWorld, object_storage: ObjectStorage) -> None:
    object_storage.create_bucket("configured")
    text = (infra.checkout / "hello" / "main.tf").read_text()
    backend = object_storage.backend("configured", "x.tfstate")
    infra.write("hello/main.tf", text.replace('  backend "http" {}\n', "") + "\n" + backend)
    infra.commit("its own backend")
    infra.main()
    infra.variables.update(object_storage.variables)
    infra.run("plan", "--state", "configured")
    infra.run("apply", "--state", "configured")
    assert object_storage.read("configured", "x.tfstate")
