"""docker-credential-pipeline-tools, as docker's clients run it: on its own, and for an agent of ours."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from sysconfig import get_path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from pipeline_tools.adapters.credential_agent import VARIABLE, Agent, ask
from pipeline_tools.commands import registry_access
from pipeline_tools.commands.registry_access import OURS as OURS_OPTIONS
from pipeline_tools.commands.registry_options import RegistryAccess
from pipeline_tools.commands.session import Home, Session
from pipeline_tools.console import Console
from pipeline_tools.errors import Denied, PipelineError
from pipeline_tools.options import of
from pipeline_tools.text.credentials import Credential
from pipeline_tools.text.masks import Secret
from sandbox import parts
from sandbox.pytest_parts import require
from tests import registry_images as images
from tests.google_world import APPS, GoogleWorld

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


HELPER = Path(get_path("scripts")) / "docker-credential-pipeline-tools"
NOT_FOUND = "credentials not found in native keychain"
OURS = "registry.example.com"


def helper(action: str, text: str = "", **variables: str) -> tuple[int, str]:
    """What the program ends with and says."""
    done = subprocess.run(
        (str(HELPER), action),
        input=text,
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, **variables},
    )
    return done.returncode, done.stdout.strip()


# On its own --------------------------------------------------------------------------------------------------


def test_it_logs_in_as_the_variables_say(google_world: GoogleWorld) -> None:
    host = google_world.registry.host
    job = {**google_world.oidc, "PT_REPOSITORY": f"{host}/{APPS}/shop"}
    code, said = helper("get", f"https://{host}\n", **job)
    assert code == 0
    assert json.loads(said) == {
        "ServerURL": f"https://{host}",
        "Username": "oauth2accesstoken",
        "Secret": google_world.issued[0].token,
    }
    assert json.loads(helper("list", **job)[1]) == {f"https://{host}": "oauth2accesstoken"}


def test_it_answers_for_named_hosts_only(google_world: GoogleWorld) -> None:
    job = {**google_world.oidc, "PT_REPOSITORY": f"{OURS}/a/b"}
    for host in (google_world.registry.host, "https://index.docker.io/v1/", ""):
        assert helper("get", host, **job) == (1, NOT_FOUND)
    assert google_world.issued == []


def test_it_does_not_ask_itself() -> None:
    """A config.json that names it for every host, and nothing else to log in with."""
    folder = Path(os.environ["HOME"]) / ".docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"credHelpers": {OURS: "pipeline-tools"}}))
    path = f"{HELPER.parent}:{os.environ['PATH']}"
    assert helper("get", OURS, PT_REPOSITORY=f"{OURS}/a/b", PATH=path) == (1, NOT_FOUND)


def test_it_says_why_it_has_none(google_world: GoogleWorld) -> None:
    host = google_world.registry.host
    job = {**google_world.oidc, "PT_REPOSITORY": f"{host}/{APPS}/shop"}
    job["PT_GOOGLE_ID_TOKEN"] = google_world.id_token(audience="vault").reveal()
    code, said = helper("get", host, **job)
    assert code == 1
    assert "does not match the expected audience" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [("store", 1, "nothing is stored"), ("erase", 0, ""), ("version", 0, "0.1.0"), ("other", 1, "other")],
)
def test_it_keeps_nothing(action: str, code: int, said: str) -> None:
    found = helper(action, json.dumps({"ServerURL": OURS, "Username": "a", "Secret": "b"}))
    assert found[0] == code
    assert said in found[1]


# For an agent of ours ----------------------------------------------------------------------------------------


@contextmanager
def lent(*given: Credential | Exception, hosts: tuple[str, ...] = (OURS,)) -> Iterator[Mapping[str, str]]:
    """An agent that gives these one after the other, and then the last for ever."""
    left = list(given)

    def credential(_host: str) -> Credential | None:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    with Agent(credential, hosts) as agent:
        yield agent.variables(os.environ)


def a(secret: str) -> Credential:
    return Credential("oauth2accesstoken", Secret(secret))


def test_an_agent_gives_a_fresh_login_each_time() -> None:
    with lent(a("first-token"), a("second-token")) as variables:
        said = [json.loads(helper("get", OURS, **variables)[1])["Secret"] for _ in range(2)]
    assert said == ["first-token", "second-token"]


def test_an_agent_answers_for_its_hosts_only() -> None:
    with lent(a("a-token")) as variables:
        assert helper("get", "other.example.com", **variables) == (1, NOT_FOUND)
        assert json.loads(helper("list", **variables)[1]) == {f"https://{OURS}": "oauth2accesstoken"}


def test_an_agent_s_refusal_is_passed_on() -> None:
    with lent(Denied("Google says no", hint="grant the role")) as variables:
        assert helper("get", OURS, **variables) == (1, "Google says no (grant the role)")


def test_nothing_secret_is_on_disk_and_nothing_stays() -> None:
    with lent(a("a-token")) as variables:
        folder = Path(variables["DOCKER_CONFIG"])
        helper("get", OURS, **variables)
        assert folder.stat().st_mode & 0o077 == 0
        texts = [path.read_text() for path in folder.iterdir() if path.is_file()]
        assert [json.loads(text) for text in texts] == [{"credHelpers": {OURS: "pipeline-tools"}}]
        assert "a-token" not in "".join(variables.values())
    assert not folder.exists()
    code, said = helper("get", OURS, **variables)
    assert (code, "does not answer" in said) == (1, True)


@click.command()
@of(Home, RegistryAccess, also=OURS_OPTIONS)
@click.pass_context
def get_through_an_agent(context: click.Context, /, **_: Any) -> None:
    """What a builder of this run would be told, once for each host that it may ask for."""
    with ExitStack() as closing, registry_access.lent(Session(context, closing), os.environ) as variables:
        for host in json.loads((Path(variables["DOCKER_CONFIG"]) / "config.json").read_text())["credHelpers"]:
            click.echo(helper("get", host, **variables)[1])


def test_a_run_lends_its_own_logins_and_docker_s(google_world: GoogleWorld) -> None:
    auth = base64.b64encode(b"someone:base-image-password").decode()
    job = {
        **google_world.oidc,
        "PT_REPOSITORY": f"{google_world.registry.host}/{APPS}/shop",
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": {OURS: {"auth": auth}}}),
    }
    said = CliRunner().invoke(get_through_an_agent, env=job, obj=Console(gitlab=False)).stdout.splitlines()
    found = {row["ServerURL"]: row["Secret"] for row in map(json.loads, said)}
    assert found == {
        google_world.registry.host: google_world.issued[0].token,
        OURS: "base-image-password",
    }
    assert len(google_world.issued) == 1


@click.command()
@of(Home, RegistryAccess, also=OURS_OPTIONS)
@click.pass_context
def base_logins(context: click.Context, /, **_: Any) -> None:
    """What the engine would be told."""
    with ExitStack() as closing:
        for host, login in registry_access.base_logins(Session(context, closing)).items():
            click.echo(f"{host} {login.user}")


def test_the_engine_is_told_what_docker_s_helpers_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of credHelpers and of the store too; one that fails is for a host that the build may not need."""
    said = '{"ServerURL": "", "Username": "helped", "Secret": "a-secret"}'
    (tmp_path / "docker-credential-good").write_text(f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / "docker-credential-bad").write_text("#!/bin/sh\nexit 1\n")
    for path in tmp_path.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    auth = base64.b64encode(b"written:a-secret").decode()
    config = {
        "auths": {OURS: {"auth": auth}},
        "credHelpers": {"good.example.com": "good", "bad.example.com": "bad"},
    }
    job = {"DOCKER_AUTH_CONFIG": json.dumps(config), "PT_REPOSITORY": "mine.example.com/app"}
    found = CliRunner().invoke(base_logins, env=job, obj=Console(gitlab=False))
    assert sorted(found.stdout.splitlines()) == ["good.example.com helped", f"{OURS} written"]


@click.command()
@of(Home, RegistryAccess, also=OURS_OPTIONS)
@click.pass_context
def ask_at_once(context: click.Context, /, repository: str, **_: Any) -> None:
    """What eight programs are told that ask in the same moment."""
    gate, host = Barrier(8), repository.partition("/")[0]
    with ExitStack() as closing, registry_access.lent(Session(context, closing), os.environ) as variables:

        def asked(_: int) -> Credential | None:
            gate.wait(5)
            return ask(Path(variables[VARIABLE]), host)

        with ThreadPoolExecutor(8) as pool:
            for login in pool.map(asked, range(8)):
                click.echo(login.password.reveal() if login else "")


def test_many_who_ask_at_once_share_a_token(google_world: GoogleWorld) -> None:
    job = {**google_world.oidc, "PT_REPOSITORY": f"{google_world.registry.host}/{APPS}/shop"}
    said = CliRunner().invoke(ask_at_once, env=job, obj=Console(gitlab=False)).stdout.split()
    assert said == [google_world.issued[0].token] * 8
    assert len(google_world.issued) == 1


@pytest.mark.parametrize("written", ["index.docker.io", "docker.io"])
@pytest.mark.parametrize("name", ["index.docker.io", "docker.io"])
def test_docker_hub_has_two_names(written: str, name: str) -> None:
    """Docker asks for the one, buildah for the other, whichever the login was written under."""
    with Agent({written: a("a-token")}.get, [written]) as agent:
        variables = agent.variables(os.environ)
        config = json.loads((Path(variables["DOCKER_CONFIG"]) / "config.json").read_text())
        assert name in config["credHelpers"]
        assert json.loads(helper("get", name, **variables)[1])["Secret"] == "a-token"


def test_a_folder_too_long_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(PipelineError, match="no socket can be made") as caught, Agent(lambda _: None, []):
        """Not reached."""
    assert "TMPDIR" in caught.value.hint
    assert list(folder.iterdir()) == []


def test_a_client_that_asks_nonsense_disturbs_nobody() -> None:
    with lent(a("a-token")) as variables:
        path = variables["PT_CREDENTIAL_SOCKET"]
        for text in (b"\n", b"{", b"[]\n", b'{"host": 7}\n'):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(path)
                line.sendall(text)
        assert helper("get", OURS, **variables)[0] == 0


def test_a_real_client_finds_its_way(google_world: GoogleWorld) -> None:
    """Skopeo is of buildah's family (containers/image), and asks helpers as buildah does."""
    require(parts.SKOPEO)
    host = google_world.registry.host
    digest = images.put_image(google_world.behind, f"{APPS}/shop", "1.0.0")
    words = ("skopeo", "inspect", "--tls-verify=false", f"docker://{host}/{APPS}/shop:1.0.0")
    alone = subprocess.run(words, capture_output=True, text=True, check=False, env=dict(os.environ))
    with Agent(lambda _host: google_world.federated()(), [host]) as agent:
        variables = agent.variables(os.environ)
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables)
    assert alone.returncode != 0
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Digest"] == digest
