"""`vault exec` and `vault doctor` on a real OpenBao."""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sandbox.kubernetes_tokens import Mood
from sandbox.openbao import OpenBao
from tests.vault_world import PASSWORD, PEM, SCALEWAY_KEY, VaultWorld

MASKED = "[MASKED]"
SHOW = (sys.executable, "-c", "import os, sys; [print(n, os.environ.get(n)) for n in sys.argv[1:]]")
COMPARE = (
    sys.executable,
    "-c",
    "import os, sys; sys.exit(any(os.environ.get(a.partition('=')[0]) != a.partition('=')[2] for a in sys.argv[1:]))",
)


def error(said: str) -> tuple[str, str]:
    lines = [line for line in said.splitlines() if line.startswith(("error: ", "hint: "))]
    assert len(lines) == 2, said
    return lines[0].removeprefix("error: "), lines[1].removeprefix("hint: ")


@pytest.fixture
def none_left(vault: VaultWorld) -> Iterator[None]:
    """No token that a login made outlives the run."""
    before = vault.accessors
    yield
    assert vault.accessors == before


# Values --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("none_left")
def test_a_kubernetes_login_lends_a_secret_and_a_value(vault: VaultWorld) -> None:
    options = (f"--secret=PASSWORD={vault.kv}/dev/app#password", f"--value=REGION={vault.kv}/dev/app#region")
    vault.run("exec", *options, "--", *COMPARE, f"PASSWORD={PASSWORD}", "REGION=fr-par")
    out, err = vault.run("exec", *options, "--", *SHOW, "PASSWORD", "REGION")
    assert out == f"PASSWORD {MASKED}\nREGION fr-par\n"
    assert err == ""


@pytest.mark.usefixtures("none_left")
def test_a_jwt_login(vault: VaultWorld) -> None:
    words = ("--vault-auth", "jwt", "--secret", f"P={vault.kv}/dev/app#password", "--")
    out, _ = vault.run("exec", *words, *SHOW, "P", "VAULT_ID_TOKEN", VAULT_ID_TOKEN=vault.id_token())
    assert out == f"P {MASKED}\nVAULT_ID_TOKEN None\n"


def test_a_given_token_is_left_alone_and_not_handed_on(vault: VaultWorld) -> None:
    made = vault.bao.client().auth.token.create(policies=[f"{vault.id}-dev"], ttl="5m")["auth"]
    words = ("--vault-auth", "token", "--secret", f"P={vault.kv}/dev/app#password", "--")
    out, _ = vault.run("exec", *words, *SHOW, "P", "VAULT_TOKEN", VAULT_TOKEN=made["client_token"])
    assert out == f"P {MASKED}\nVAULT_TOKEN None\n"
    assert made["accessor"] in vault.accessors


def test_versions_kv_v1_and_base64(vault: VaultWorld) -> None:
    vault.put("dev/versions", it="first-version")
    vault.put("dev/versions", it=base64.b64encode(b"second-version").decode())
    vault.bao.write(f"{vault.kv}1/dev/old", it="of-kv-version-one")
    options = (
        f"--secret=A={vault.kv}/dev/versions#it@1",
        f"--secret=B={vault.kv}/dev/versions#it@2:base64",
        f"--secret=C={vault.kv}1/dev/old#it",
    )
    wanted = ("A=first-version", "B=second-version", "C=of-kv-version-one")
    vault.run("exec", *options, "--", *COMPARE, *wanted)


def test_everything_below_a_path(vault: VaultWorld) -> None:
    vault.put("dev/tree", top="top-value")
    vault.put("dev/tree/sub-dir/leaf", **{"api.key": "leaf-value"})
    words = (f"--secrets-below=APP_={vault.kv}/dev/tree", "--", *COMPARE)
    vault.run("exec", *words, "APP_TOP=top-value", "APP_SUB_DIR_LEAF_API_KEY=leaf-value")


def test_a_path_that_anybody_writes_below_does_not_choose_the_program(vault: VaultWorld) -> None:
    vault.put("dev/hostile", ld_preload="evil.so")
    _, err = vault.run("exec", f"--secrets-below=={vault.kv}/dev/hostile", "--", "true", exit_code=1)
    assert "LD_PRELOAD" in error(err)[0]


def test_a_file_is_private_in_memory_and_gone_afterwards(vault: VaultWorld) -> None:
    code = "import os; p = os.environ['K']; print(p, oct(os.stat(p).st_mode), oct(os.stat(os.path.dirname(p)).st_mode), len(open(p).read()))"
    out, _ = vault.run("exec", f"--secret=K={vault.kv}/dev/app#key:file", "--", sys.executable, "-c", code)
    path, *rest = out.split()
    assert rest == ["0o100600", "0o40700", str(len(PEM))]
    assert path.startswith("/dev/shm/")  # noqa: S108 (where it is to be)
    assert not Path(path).parent.exists()


def test_scaleway(vault: VaultWorld) -> None:
    client = vault.bao.client()
    client.sys.enable_secrets_engine("kv", path="scaleway/project/demo", options={"version": "2"})
    for path, fields in {
        "credentials/access": {"key": "SCWABCDEFGHIJKLMNOPQ"},
        "credentials/secret": {"key": SCALEWAY_KEY},
        "config": {"id": "project-id"},
    }.items():
        client.secrets.kv.v2.create_or_update_secret(path, fields, mount_point="scaleway/project/demo")
    try:
        names = (
            "SCW_ACCESS_KEY",
            "SCW_SECRET_KEY",
            "SCW_DEFAULT_PROJECT_ID",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        )
        out, _ = vault.run("exec", "--scaleway=demo", "--s3-backend", "--", *SHOW, *names)
        values = [line.split()[1] for line in out.splitlines()]
        assert values == ["SCWABCDEFGHIJKLMNOPQ", MASKED, "project-id", "SCWABCDEFGHIJKLMNOPQ", MASKED]
        out, _ = vault.run("exec", "--scaleway=demo", "--", *SHOW, "AWS_SECRET_ACCESS_KEY")
        assert out == "AWS_SECRET_ACCESS_KEY None\n"
    finally:
        client.sys.disable_secrets_engine("scaleway/project/demo")


def test_a_namespace(vault: VaultWorld) -> None:
    name = f"team-{vault.id}"
    vault.bao.write(f"sys/namespaces/{name}")
    client = vault.bao.client(namespace=name)
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    client.secrets.kv.v2.create_or_update_secret("app", {"it": "of-the-namespace"})
    words = ("--vault-auth", "token", "--secret", "A=secret/app#it", "--", *COMPARE, "A=of-the-namespace")
    vault.run("exec", *words, VAULT_TOKEN=vault.bao.token, VAULT_NAMESPACE=name)


# Dual proof ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dual(vault: VaultWorld) -> VaultWorld:
    """KV holds ciphertext that only the JWT role reads; only the Kubernetes role decrypts."""
    client, transit = vault.bao.client(), f"{vault.id}-transit"
    vault.bao.write(f"{transit}/keys/prod")
    plain = base64.b64encode(PASSWORD.encode()).decode()
    text = vault.bao.write(f"{transit}/encrypt/prod", plaintext=plain)["data"]["ciphertext"]
    vault.put("prod/app", password=text, naked="not-encrypted")
    reads = f'path "{vault.kv}/data/prod/*" {{ capabilities = ["read"] }}'
    decrypts = f'path "{transit}/decrypt/prod" {{ capabilities = ["update"] }}'
    client.sys.create_or_update_policy(f"{vault.id}-reads", reads)
    client.sys.create_or_update_policy(f"{vault.id}-decrypts", decrypts)
    vault.role("prod", [f"{vault.id}-decrypts"])
    vault.jwt_role("prod", [f"{vault.id}-reads"])
    return vault


def dual_words(dual: VaultWorld, field: str = "password") -> tuple[str, ...]:
    key = f"--vault-transit-key={dual.id}-transit/prod"
    return "exec", "--vault-role=prod", key, f"--secret=P={dual.kv}/prod/app#{field}"


@pytest.mark.usefixtures("none_left")
def test_both_tokens_together_yield_the_secret(dual: VaultWorld) -> None:
    words = (*dual_words(dual), "--vault-auth=kubernetes+jwt", "--", *COMPARE, f"P={PASSWORD}")
    dual.run(*words, VAULT_ID_TOKEN=dual.id_token())


@pytest.mark.usefixtures("none_left")
def test_the_kubernetes_token_alone_yields_nothing(dual: VaultWorld) -> None:
    _, err = dual.run(*dual_words(dual), "--vault-auth=kubernetes", "--", "true", exit_code=4)
    assert f"{dual.kv}/prod/app" in error(err)[0]
    assert "reach nothing there" in error(err)[1]


@pytest.mark.usefixtures("none_left")
def test_the_id_token_alone_yields_ciphertext(dual: VaultWorld) -> None:
    token = dual.id_token()
    words = (*dual_words(dual), "--vault-auth=jwt", "--", *COMPARE, f"P={PASSWORD}")
    dual.run(*words, VAULT_ID_TOKEN=token, exit_code=1)
    other = dual.token_file("ci-dev", "another")
    words = (*dual_words(dual), "--vault-auth=kubernetes+jwt", "--", "true")
    _, err = dual.run(*words, VAULT_ID_TOKEN=token, PT_KUBERNETES_TOKEN_FILE=str(other), exit_code=4)
    assert "account name not authorized" in error(err)[0]


def test_a_secret_that_one_token_could_read_is_refused(dual: VaultWorld) -> None:
    words = (*dual_words(dual, "naked"), "--vault-auth=kubernetes+jwt", "--", "true")
    _, err = dual.run(*words, VAULT_ID_TOKEN=dual.id_token(), exit_code=1)
    assert "no transit ciphertext" in error(err)[0]


# The end of the loan -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("none_left")
@pytest.mark.parametrize("code", [0, 1, 5, 125, 255])
def test_the_exit_code_is_the_childs(vault: VaultWorld, code: int) -> None:
    vault.run("exec", "--", "sh", "-c", f"exit {code}", exit_code=code)


@pytest.mark.usefixtures("none_left")
@pytest.mark.parametrize("words", [("no-such-program",), ("/etc/passwd",)])
def test_a_program_that_cannot_be_started(vault: VaultWorld, words: tuple[str, ...]) -> None:
    _, err = vault.run("exec", "--", *words, exit_code=1)
    assert words[0] in error(err)[0]


@pytest.mark.usefixtures("none_left")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_child_and_the_token_is_revoked(
    vault: VaultWorld, number: signal.Signals
) -> None:
    code = f"""
import signal, sys, time
signal.signal({int(number)}, lambda *_: sys.exit(33))
print("ready", flush=True)
time.sleep(30)
"""
    with vault.start("exec", "--", sys.executable, "-c", code) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(20) == 33


@pytest.mark.usefixtures("none_left")
def test_a_child_that_the_signal_ends(vault: VaultWorld) -> None:
    with vault.start("exec", "--", "sh", "-c", "echo ready; exec sleep 30") as process:
        assert process.stdout
        process.stdout.readline()
        process.terminate()
        assert process.wait(20) == 143


@pytest.mark.usefixtures("none_left")
@pytest.mark.usefixtures("none_left")
def test_terminated_in_the_middle_of_the_login(vault: VaultWorld) -> None:
    """The login ends at the server after the signal; its token is revoked all the same."""
    asked = vault.cluster.asked
    with vault.cluster.behaving(Mood.SLOW), vault.start("exec", "--", "true") as process:
        while vault.cluster.asked == asked and process.poll() is None:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(20) == 143


def test_a_failed_revocation_is_said(vault: VaultWorld) -> None:
    vault.bao.client().sys.create_or_update_policy(
        f"{vault.id}-mute", 'path "x/*" { capabilities = ["read"] }'
    )
    vault.role("mute", [f"{vault.id}-mute"], token_no_default_policy=True)
    _, err = vault.run("exec", "--vault-role=mute", "--", "sh", "-c", "exit 3", exit_code=3)
    assert "warning: vault: the Vault token of this login could not be revoked" in err


def test_a_batch_token_is_said(vault: VaultWorld) -> None:
    _, err = vault.run("exec", "--vault-role=batch", "--", "true")
    assert "cannot be revoked: this one ends by itself in" in err


def test_a_full_disk_is_125_and_the_token_is_revoked(vault: VaultWorld, none_left: None) -> None:
    with Path("/dev/full").open("wb") as full:
        argv = (
            sys.executable,
            "-m",
            "pipeline_tools",
            "vault",
            "exec",
            "--",
            "sh",
            "-c",
            "echo x; sleep 0.1",
        )
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, env=vault.variables(), check=False)
    assert done.returncode == 125
    assert b"No space left" in done.stderr


# Refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "exit_code", "message", "hint"),
    [
        ("{kv}/dev/app#nothing", 1, "{kv}/dev/app has no field nothing", "its fields: key, password, region"),
        ("{kv}/dev/none#x", 1, "Vault has no secret at {kv}/dev/none", "{kv}/ is kv version 2"),
        ("{kv}/dev/app#password@99", 1, "no secret at {kv}/dev/app version 99", "kv version 2"),
        ("{kv}/prod/app#x", 4, "does not let kubernetes role dev", "grant deny on {kv}/data/prod/app; one of them must grant read"),
        ("nowhere/app#x", 4, "nowhere/app", "nothing is mounted at nowhere/app, or the policies of this token"),
        ("{kv}/data/dev/app#x", 4, "{kv}/data/data/dev/app", "is its data/ doubled?"),
        ("{kv}1/dev/old#it@3", 1, "{kv}1/dev/old has no versions", "leave @VERSION away"),
        ("{kv}/dev/gone#x", 1, "version 1 of {kv}/dev/gone was deleted at 20", "undelete"),
        ("{kv}/dev/burnt#x", 1, "version 1 of {kv}/dev/burnt was destroyed", "@VERSION"),
        ("{kv}/dev/short#x", 1, "{kv}/dev/short#x has fewer than 4 characters", "--value A={kv}/dev/short#x"),
        ("{kv}/dev/app#password:base64", 1, "is not base64", ":base64"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("none_left")
def test_what_cannot_be_lent(vault: VaultWorld, place: str, exit_code: int, message: str, hint: str) -> None:
    kv = vault.bao.client().secrets.kv.v2
    for name in ("gone", "burnt", "short"):
        vault.put(f"dev/{name}", x="abc")
    kv.delete_secret_versions("dev/gone", [1], mount_point=vault.kv)
    kv.destroy_secret_versions("dev/burnt", [1], mount_point=vault.kv)
    if "gone" in place or "burnt" in place:
        place += "@1"
    said = vault.run("exec", f"--secret=A={place.format(kv=vault.kv)}", "--", "true", exit_code=exit_code)[1]
    assert message.format(kv=vault.kv) in error(said)[0]
    assert hint.format(kv=vault.kv) in error(said)[1]


@pytest.mark.parametrize(
    ("token", "role", "message", "hint"),
    [
        (("ci-prod", "job-dev", {}), "dev", "namespace not authorized", "must name ci-prod"),
        (("ci-dev", "other", {}), "dev", "account name not authorized", "must name other"),
        (("ci-dev", "job-dev", {"audience": "https://elsewhere"}), "dev", "audience", "the token is for https://elsewhere"),
        (("ci-dev", "job-dev", {"seconds": -60}), "dev", "the token expired at", "clocks right"),
        (("ci-dev", "job-dev", {"skew": 900}), "dev", "ahead of this machine's clock", "clocks right"),
        (("ci-dev", "job-dev", {}), "nobody", "invalid role name", "has no role nobody"),
    ],
)  # fmt: skip
def test_a_refused_login_says_what_failed(
    vault: VaultWorld, token: tuple[str, str, dict[str, str]], role: str, message: str, hint: str
) -> None:
    file = vault.token_file(token[0], token[1], **token[2])
    words = ("exec", f"--vault-role={role}", "--output=json", "-v", "--", "true")
    out, err = vault.run(*words, exit_code=4, PT_KUBERNETES_TOKEN_FILE=str(file))
    found = json.loads(out)
    assert found["command"] == "vault exec"
    assert message in found["errors"][0]["message"]
    assert hint in found["errors"][0]["hint"]
    assert file.read_text() not in out + err


@pytest.mark.parametrize("mood", [Mood.FORBIDS, Mood.BREAKS])
def test_a_reviewer_that_cannot_review(vault: VaultWorld, mood: Mood) -> None:
    with vault.cluster.behaving(mood):
        _, err = vault.run("exec", "--", "true", exit_code=4)
    assert "system:auth-delegator" in error(err)[1]


def test_an_unprotected_ref(vault: VaultWorld) -> None:
    token = vault.id_token(is_protected=False)
    _, err = vault.run("exec", "--vault-auth=jwt", "--", "true", exit_code=4, VAULT_ID_TOKEN=token)
    assert "ref_protected=false" in error(err)[1]


def test_no_token(vault: VaultWorld) -> None:
    assert "VAULT_TOKEN" in vault.run("exec", "--vault-auth=token", "--", "true", exit_code=4)[1]
    assert "id_tokens" in vault.run("exec", "--vault-auth=jwt", "--", "true", exit_code=4)[1]
    missing = vault.run("exec", "--", "true", exit_code=4, PT_KUBERNETES_TOKEN_FILE="/nowhere")[1]
    assert "--kubernetes-token-file" in missing


@pytest.mark.parametrize(
    "words",
    [
        ("--secret=A", "--", "true"),
        ("--secret=A=p", "--", "true"),
        ("--secret=1A=p#f", "--", "true"),
        ("--secret=A=p#f", "--value=A=q#f", "--", "true"),
        ("--secrets-below=A-=p", "--", "true"),
        ("--s3-backend", "--", "true"),
        ("--vault-auth=kubernetes+jwt", "--", "true"),
        ("--vault-address=vault.example", "--", "true"),
    ],
)
def test_what_is_wrong_before_anybody_is_asked(vault: VaultWorld, words: tuple[str, ...]) -> None:
    error(vault.run("exec", *words, exit_code=1)[1])


# A server that does not play along -----------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, bao: OpenBao) -> Iterator[OpenBao]:
    with OpenBao.start(tmp_path / "own") as started:
        started.client().secrets.kv.v2.create_or_update_secret("app", {"it": "of-my-own-server"})
        yield started


def own_words(*options: str) -> tuple[str, ...]:
    return (
        "exec",
        "--vault-auth=token",
        *options,
        "--secret=A=secret/app#it",
        "--",
        *COMPARE,
        "A=of-my-own-server",
    )


def test_a_sealed_server_is_awaited(vault: VaultWorld, own: OpenBao) -> None:
    own.seal()
    _, err = vault.run(
        *own_words("--vault-timeout=1"), VAULT_ADDR=own.url, VAULT_TOKEN=own.token, exit_code=5
    )
    assert "Vault is sealed (503)" in error(err)[0]
    assert "unseal" in error(err)[1]
    with vault.start(*own_words("--vault-timeout=30"), VAULT_ADDR=own.url, VAULT_TOKEN=own.token) as process:
        time.sleep(1.5)
        own.unseal()
        assert process.wait(30) == 0


def test_a_server_that_is_killed_while_the_child_runs(vault: VaultWorld, own: OpenBao) -> None:
    client = own.client()
    client.sys.enable_auth_method("jwt")
    own.write("auth/jwt/config", jwt_validation_pubkeys=[vault.gitlab.public_key])
    own.write(
        "auth/jwt/role/dev", role_type="jwt", user_claim="sub", bound_audiences=["vault"], token_ttl="10m"
    )
    words = (
        "exec",
        "--vault-auth=jwt",
        "--vault-jwt-mount=jwt",
        "--",
        "sh",
        "-c",
        "echo ready; sleep 1; exit 9",
    )
    with vault.start(*words, VAULT_ADDR=own.url, VAULT_ID_TOKEN=vault.id_token()) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        own.service.process.kill()
        assert process.wait(30) == 9
        assert process.stderr
        assert b"could not be revoked" in process.stderr.read()


def test_nobody_there(vault: VaultWorld) -> None:
    _, err = vault.run(
        "exec", "--vault-timeout=0", "--", "true", VAULT_ADDR="http://127.0.0.1:9", exit_code=5
    )
    assert "refused" in error(err)[0]


def test_tls(vault: VaultWorld, tmp_path: Path) -> None:
    with OpenBao.start(tmp_path, tls=True) as bao:
        bao.client().secrets.kv.v2.create_or_update_secret("app", {"it": "of-my-own-server"})
        given: dict[str, Any] = {"VAULT_ADDR": bao.url, "VAULT_TOKEN": bao.token}
        vault.run(*own_words(f"--vault-ca-file={bao.ca_file}"), **given)
        _, err = vault.run(*own_words(), exit_code=1, **given)
        assert "is not trusted" in error(err)[0]
        assert "--vault-ca-file" in error(err)[1]
        plain = bao.url.replace("https", "http")
        _, err = vault.run(*own_words(), VAULT_ADDR=plain, VAULT_TOKEN=bao.token, exit_code=1)
        assert "https://" in error(err)[1]
    _, err = vault.run(
        *own_words(), VAULT_ADDR=vault.bao.url.replace("http", "https"), VAULT_TOKEN="a-token", exit_code=1
    )
    assert "does not speak TLS" in error(err)[0]


# Canaries ------------------------------------------------------------------------------------------------------

SPILL = """
import base64, os, sys, time, urllib.parse
value = os.environ["P"]
for out in (sys.stdout, sys.stderr):
    for text in (value, base64.b64encode(value.encode()).decode(), urllib.parse.quote(value, safe=""), os.environ["K"]):
        print(text, file=out, flush=True)
for byte in value:
    sys.stdout.write(byte)
    sys.stdout.flush()
time.sleep(2)
sys.exit(int(sys.argv[1]))
"""


def forms(value: str) -> set[str]:
    lines = {line for line in value.splitlines() if "canary" in line}
    found = {value, *lines}
    return found | {base64.b64encode(v.encode()).decode() for v in found} | {quote(v, safe="") for v in found}


@pytest.mark.usefixtures("none_left")
@pytest.mark.parametrize("code", [0, 7])
def test_no_secret_is_anywhere_but_in_the_childs_environment(
    vault: VaultWorld, tmp_path: Path, code: int
) -> None:
    token = vault.token_file().read_text()
    canaries = forms(PASSWORD) | forms(PEM) | {token}
    file = tmp_path / "token"
    file.write_text(token)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    options = (
        f"--secret=P={vault.kv}/dev/app#password",
        f"--secret=K={vault.kv}/dev/app#key",
        "-v",
        "--output=json",
    )
    given = {"PT_KUBERNETES_TOKEN_FILE": str(file), "TMPDIR": str(temporary)}
    with vault.start("exec", *options, "--", sys.executable, "-c", SPILL, str(code), **given) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        seen = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        ours = Path(f"/proc/{process.pid}/environ").read_bytes()
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    kept = [
        p.read_bytes()
        for root in (temporary, vault.directory)
        for p in root.rglob("*")
        if p.is_file() and p.read_text() != token and not p.name.startswith("token-")
    ]
    everything = b"\n".join([out, err, ours, *seen, *kept]).decode(errors="replace")
    assert {canary for canary in canaries if canary in everything} == set()
    assert everything.count(MASKED) >= 8


@pytest.mark.parametrize("place", ["password", "key"])
def test_a_bug_shows_no_secret_in_its_traceback(vault: VaultWorld, place: str) -> None:
    code = f"""
import sys
from pipeline_tools.adapters import stream
from pipeline_tools.cli import main
def broken(*_, environment, **__):
    raise RuntimeError(environment["P"], dict(environment))
stream.run = broken
sys.argv = ["pipeline-tools", "vault", "exec", "-v", "--secret=P={vault.kv}/dev/app#{place}", "--", "true"]
main()
"""
    done = subprocess.run(
        (sys.executable, "-c", code), capture_output=True, text=True, env=vault.variables(), check=False
    )
    assert done.returncode == 70
    assert "RuntimeError" in done.stderr
    assert not {form for form in forms(PASSWORD) | forms(PEM) if form in done.stdout + done.stderr}


# Dry run and doctor --------------------------------------------------------------------------------------------


def test_a_dry_run_asks_nobody(vault: VaultWorld) -> None:
    before = len(vault.cluster.reviews)
    words = (
        "exec",
        "--dry-run",
        f"--secret=A={vault.kv}/dev/app#password@2:file",
        "--scaleway=demo",
        "--",
        "terraform",
        "apply",
    )
    out, _ = vault.run(*words, VAULT_ADDR="http://127.0.0.1:9")
    assert f"A ← {vault.kv}/dev/app#password@2 (file, secret)" in out
    assert "SCW_SECRET_KEY ← scaleway/project/demo/credentials/secret#key (secret)" in out
    assert "kubernetes role dev at auth/" in out
    assert "would run terraform apply" in out
    assert len(vault.cluster.reviews) == before
    found = json.loads(vault.run(*words[:-3], "--output=json", "--", "true")[0])
    assert found["status"] == "planned"
    assert found["plan"]["variables"]["A"] == f"{vault.kv}/dev/app#password@2"
    assert "unread" not in found["plan"]


@pytest.mark.usefixtures("none_left")
def test_doctor_finds_nothing_wrong(vault: VaultWorld) -> None:
    out, _ = vault.run("doctor", f"--secret=A={vault.kv}/dev/app#password")
    assert f"policies default, {vault.id}-dev; service token, ends in " in out
    assert f"  {vault.kv}/data/dev/app: read" in out
    assert "no findings" in out


@pytest.mark.usefixtures("none_left")
def test_doctor_finds_what_is_wrong(vault: VaultWorld) -> None:
    policy = f'path "{vault.kv}/*" {{ capabilities = ["read", "update"] }}'
    vault.bao.client().sys.create_or_update_policy(f"{vault.id}-wide", policy)
    vault.role("wide", [f"{vault.id}-wide"], token_ttl=0)
    vault.put("dev/aged", it="a-value-that-is-old")
    for name, custom in (("aged", {"rotate_by": "2020-01-31"}),):
        vault.bao.write(f"{vault.kv}/metadata/dev/{name}", custom_metadata=custom)
    options = (f"--secret=A={vault.kv}/dev/aged#it", "--secret=B=nowhere/x#y", "--output=json")
    out, err = vault.run("doctor", "--vault-role=wide", *options, exit_code=6)
    found = json.loads(out)
    rules = {finding["rule"] for report in found["result"]["reports"] for finding in report["findings"]}
    assert rules == {"long-ttl", "may-write", "wildcard", "old-key", "unreachable"}
    assert found["errors"][0]["code"] == "differs"
    assert "a-value-that-is-old" not in out + err


def test_doctor_of_a_token_without_end(vault: VaultWorld) -> None:
    out, _ = vault.run("doctor", "--vault-auth=token", VAULT_TOKEN=vault.bao.token, exit_code=6)
    assert "no-ttl: the token never ends" in out
    assert "root: the token has the root policy" in out


@pytest.mark.usefixtures("none_left")
def test_doctor_of_two_proofs(dual: VaultWorld) -> None:
    words = ("doctor", *dual_words(dual)[1:], "--vault-auth=kubernetes+jwt")
    out, _ = dual.run(*words, VAULT_ID_TOKEN=dual.id_token())
    assert f"{dual.id}-transit/decrypt/prod: update" in out
    assert f"{dual.kv}/data/prod/app: read" in out


def test_the_environment_of_the_tests_holds_no_vault() -> None:
    assert not [name for name in os.environ if name.startswith(("VAULT_", "BAO_"))]
    assert tempfile.gettempdir()


def rules(vault: VaultWorld, *options: str, **variables: str) -> set[str]:
    """The rules that doctor finds broken."""
    out, _ = vault.run("doctor", *options, "--output=json", exit_code=6, **variables)
    found = json.loads(out)["result"]["reports"]
    return {finding["rule"] for report in found for finding in report["findings"]}


def test_doctor_of_tokens_of_an_odd_kind(vault: VaultWorld) -> None:
    own = [f"{vault.id}-dev"]
    vault.role("batch", own, token_type="batch")
    vault.role("few", own, token_num_uses=50)
    assert "batch" in rules(vault, "--vault-role=batch")
    assert "num-uses" in rules(vault, "--vault-role=few")


@pytest.mark.usefixtures("none_left")
def test_doctor_of_a_path_that_no_policy_grants(vault: VaultWorld) -> None:
    vault.role("narrow", [f"{vault.id}-none"])
    assert rules(vault, "--vault-role=narrow", f"--secret=A={vault.kv}/dev/app#password") & {
        "cannot-read",
        "unreachable",
    }


@pytest.mark.usefixtures("none_left")
def test_doctor_of_a_key_that_no_policy_grants(dual: VaultWorld) -> None:
    words = [word for word in dual_words(dual)[1:] if "transit-key" not in word]
    key = f"--vault-transit-key={dual.id}-transit/other"
    found = rules(dual, *words, key, "--vault-auth=kubernetes+jwt", VAULT_ID_TOKEN=dual.id_token())
    assert "cannot-decrypt" in found
