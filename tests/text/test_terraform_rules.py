"""Every rule finds what it is for, where it is, and nothing in a sound root."""

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import terraform_roots, terraform_rules
from pipeline_tools.text.terraform_files import Folder

SOUND = """\
terraform {
  required_version = ">= 1.11"
  backend "http" {}
  required_providers {
    scaleway = {
      source  = "scaleway/scaleway"
      version = "~> 2.81"
    }
  }
}
provider "scaleway" {
  region     = "fr-par"
  secret_key = var.key
}
data "terraform_remote_state" "x" {}
resource "terraform_data" "y" {}
resource "scaleway_vpc" "z" {}
"""
LOCK = """\
provider "registry.terraform.io/scaleway/scaleway" {
  version = "2.81.3"
  hashes  = ["h1:abc=", "zh:def"]
}
"""


def folders(files: Mapping[str, str]) -> tuple[Folder, ...]:
    def reader(folder: str) -> Mapping[str, str]:
        return {path: text for path, text in files.items() if path.rpartition("/")[0] == folder}

    return terraform_roots.folders("r", reader)


def found(main: str, lock: str | None = LOCK, **more: str) -> set[tuple[str, str, int]]:
    """The findings in `r/main.tf` beside a lock file: rule, file, line."""
    files = {"r/main.tf": main, **more} | ({"r/.terraform.lock.hcl": lock} if lock is not None else {})
    return {(item.rule, item.path, item.line) for item in terraform_rules.check(folders(files))}


def rules(main: str, lock: str | None = LOCK, **more: str) -> set[str]:
    return {rule for rule, _, _ in found(main, lock, **more)}


def test_nothing_is_found_in_a_sound_root() -> None:
    assert found(SOUND) == set()


BACKEND = '  backend "http" {}'


@pytest.mark.parametrize(
    ("old", "new", "rule", "line"),
    [
        (BACKEND, "", "no-backend", 1),
        (BACKEND, '  backend "local" {}', "local-backend", 3),
        (BACKEND, "  cloud {}", "cloud-backend", 3),
        (BACKEND, '  backend "s3" {\n    bucket = "b"\n    secret_key = "x"\n  }', "backend-credentials", 5),
        (BACKEND, '  backend "http" {\n    password = ""\n  }', "backend-credentials", 4),
        ("var.key", '"11111111"', "provider-credentials", 13),
        ('  required_version = ">= 1.11"', "", "required-version", 1),
        ('      version = "~> 2.81"\n', "", "provider-version", 5),
        ("scaleway_vpc", "null_resource", "provider-not-allowed", 17),
        ('resource "terraform_data" "y" {}', 'data "external" "y" {}', "external-data", 16),
        ('resource "terraform_data" "y" {}', 'check "c" {\n  data "external" "y" {}\n}', "external-data", 17),
        ('resource "terraform_data" "y" {}', 'data "http" "y" {}', "http-data", 16),
        ('"y" {}', '"y" {\n  provisioner "local-exec" {}\n}', "provisioner", 17),
        ('"y" {}', '"y" {\n  provisioner "remote-exec" {}\n}', "provisioner", 17),
        ("  region ", "  exec {\n  }\n  region ", "provider-exec", 12),
        ("  region ", '  kubernetes = { exec = { command = "x" } }\n  region ', "provider-exec", 12),
    ],
)
def test_a_breach(old: str, new: str, rule: str, line: int) -> None:
    assert old in SOUND
    hits = {
        place for name, path, place in found(SOUND.replace(old, new)) if name == rule and path == "r/main.tf"
    }
    assert hits == {line}


def module(source: str, more: str = "") -> str:
    return SOUND + f'module "m" {{\n  source = {source}\n  {more}\n}}\n'


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        ('"./m"', "", set()),
        ('"../m"', "", set()),
        ('"../../m"', "", {"module-outside"}),
        ('"a/b/c"', 'version = "1.2.3"', set()),
        ('"a/b/c"', 'version = "~> 1.2"', {"module-unpinned"}),
        ('"a/b/c"', "", {"module-unpinned"}),
        ('"git::https://example.com/m.git?ref=v1.2.3"', "", set()),
        (f'"git::https://example.com/m.git//sub?depth=1&ref={"a" * 40}"', "", set()),
        ('"git::https://example.com/m.git?ref=main"', "", {"module-branch"}),
        ('"git::https://example.com/m.git?ref=v1"', "", {"module-branch"}),
        ('"git::https://example.com/m.git"', "", {"module-branch"}),
        ('"https://example.com/m.zip"', "", {"module-remote"}),
        ('"/etc/modules"', "", {"module-remote"}),
        ('"${path.module}/m"', "", {"module-unreadable"}),
        ('true ? "evil" : "./m"', "", {"module-unreadable"}),
    ],
)
def test_modules(source: str, more: str, expected: set[str]) -> None:
    text = module(source, more)
    assert rules(text) == expected
    if expected:
        assert {place for _, _, place in found(text)} == {19}


def test_a_module_is_looked_at_too() -> None:
    inner = 'data "external" "x" {}\nresource "scaleway_vpc" "y" {}\n'
    assert ("external-data", "r/m/main.tf", 1) in found(module('"./m"'), **{"r/m/main.tf": inner})


@pytest.mark.parametrize(
    ("source", "is_allowed"),
    [
        ("scaleway/scaleway", True), ("Scaleway/Scaleway", True), ("registry.terraform.io/scaleway/scaleway", True),
        ("registry.opentofu.org/scaleway/scaleway", True), ("registry.example.com/scaleway/scaleway", False),
        ("evil/scaleway", False), ("hashicorp/null", False), ("terraform.io/builtin/terraform", True),
    ],
)  # fmt: skip
def test_the_list_of_providers(source: str, is_allowed: bool) -> None:
    text = SOUND.replace('source  = "scaleway/scaleway"', f'source  = "{source}"')
    assert ("provider-not-allowed" in rules(text, None)) is not is_allowed


def test_a_list_of_ones_own() -> None:
    found = terraform_rules.check(
        folders({"r/main.tf": SOUND, "r/.terraform.lock.hcl": LOCK}), allowed=frozenset({"acme/x"})
    )
    assert {item.rule for item in found} == {"provider-not-allowed"}


def test_what_is_meant_but_not_written_counts() -> None:
    """A resource without an entry in required_providers makes terraform fetch hashicorp's provider of that name."""
    text = SOUND + 'resource "null_resource" "x" {}\n'
    assert ("provider-not-allowed", "r/main.tf", 18) in found(text)
    assert ("provider-version", "r/main.tf", 18) in found(text)


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        (None, {"lock-missing"}),
        ("", {"lock-incomplete"}),
        (LOCK.replace("2.81.3", "3.0.0"), {"lock-version"}),
        (LOCK.replace('"h1:abc=", "zh:def"', ""), {"lock-hashes"}),
        (LOCK.replace('"h1:abc=", "zh:def"', '"xx:1"'), {"lock-hashes"}),
        (LOCK.replace(', "zh:def"', ""), set()),
        (LOCK + LOCK.replace("scaleway/scaleway", "hashicorp/google"), {"lock-unused"}),
        (LOCK + LOCK.replace("scaleway/scaleway", "evil/x"), {"lock-unused", "provider-not-allowed"}),
        (LOCK.replace("registry.terraform.io", "registry.example.com"),
         {"lock-incomplete", "lock-unused", "provider-not-allowed"}),
        ("provider {", {"unreadable"}),
    ],
)  # fmt: skip
def test_the_lock_file(lock: str | None, expected: set[str]) -> None:
    assert rules(SOUND, lock) == expected


def test_without_providers_no_lock_file_is_wanted() -> None:
    text = 'terraform {\n  required_version = ">= 1.11"\n  backend "http" {}\n}\nresource "terraform_data" "x" {}\n'
    assert rules(text, None) == set()


def test_what_cannot_be_read_is_a_finding_with_its_line() -> None:
    assert ("unreadable", "r/broken.tf", 2) in found(SOUND, **{"r/broken.tf": 'x = 1\ny = "\n'})


def test_code_in_the_checkout() -> None:
    bundled = ["r/.terraform/providers/x"]
    (finding,) = terraform_rules.check(
        folders({"r/main.tf": SOUND, "r/.terraform.lock.hcl": LOCK}), bundled=bundled
    )
    assert (finding.rule, finding.path) == ("bundled-code", "r/.terraform/providers/x")


# Exceptions ----------------------------------------------------------------------------------------------------

EXTERNAL = 'data "external" "x" {}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{EXTERNAL} # pipeline-tools:ignore external-data the old way", set()),
        (f"// pipeline-tools:ignore external-data the old way\n{EXTERNAL}", set()),
        (f"# pipeline-tools:ignore external-data\n{EXTERNAL}", {"external-data", "ignore-reason"}),
        (f"# pipeline-tools:ignore http-data wrong rule\n{EXTERNAL}", {"external-data"}),
        (f"# pipeline-tools:ignore external-data too far\n\n{EXTERNAL}", {"external-data"}),
        (f"locals {{}} # pipeline-tools:ignore external-data of another line\n{EXTERNAL}", {"external-data"}),
    ],
)
def test_exceptions(text: str, expected: set[str]) -> None:
    sound = SOUND.replace("    scaleway = {", '    external = {\n      source = "scaleway/external"\n      version = "1"\n    }\n    scaleway = {')  # fmt: skip
    assert rules(sound + text) - {"provider-not-allowed", "lock-incomplete"} == expected


def test_an_exception_lets_nothing_run() -> None:
    text = SOUND.replace(
        "    scaleway = {", "    # pipeline-tools:ignore provider-not-allowed mine\n    scaleway = {"
    )
    of_root = folders({"r/main.tf": text.replace('"scaleway/scaleway"', '"evil/x"')})
    assert "provider-not-allowed" not in {item.rule for item in terraform_rules.check(of_root)}
    (reason, *_) = terraform_rules.bars(of_root, terraform_rules.every(of_root))
    assert "provider-not-allowed" in reason


@pytest.mark.parametrize(
    ("text", "is_barred"),
    [
        (SOUND, False), (module('"./m"'), False), (SOUND.replace(BACKEND, ""), False),
        (module('"a/b/c"', 'version = "1.2.3"'), True), (module('"../../m"'), True), (SOUND + "x = [", True),
        (SOUND + 'resource "null_resource" "x" {}', True), (SOUND + EXTERNAL, True),
    ],
)  # fmt: skip
def test_what_bars_init(text: str, is_barred: bool) -> None:
    of_root = folders({"r/main.tf": text, "r/.terraform.lock.hcl": LOCK})
    assert bool(terraform_rules.bars(of_root, terraform_rules.every(of_root))) is is_barred


# Anything ------------------------------------------------------------------------------------------------------

NAMES = ("terraform", "backend", "required_providers", "provider", "module", "data", "resource", "provisioner",
         "check", "run", "exec", "cloud", "lifecycle")  # fmt: skip
LABELS = st.lists(st.sampled_from(['"http"', '"external"', '"x"', '""', '"a_b"', '"\\n"', "x"]), max_size=3)
SETTINGS = st.sampled_from(
    ["source", "version", "required_version", "password", "token", "hashes", "provider", "exec", "x"]
)
WORTHS = st.sampled_from(
    ['"./a"', '"../../.."', '"a/b"', '"${x}"', "null", "true", "[]", '["h1:x"]', "{}", '{ source = "a/b" }',
     "{ source = [1], version = {} }", "1", "x.y", '"~> 1"', '"' + "a" * 500 + '"', '"\\u0000"']
)  # fmt: skip


def block(name: str, labels: list[str], body: list[str]) -> str:
    return f"{name} {' '.join(labels)} {{\n" + "".join(f"{line}\n" for line in body) + "}\n"


BLOCKS = st.recursive(
    st.tuples(SETTINGS, WORTHS).map(" = ".join),
    lambda inner: st.builds(block, st.sampled_from(NAMES), LABELS, st.lists(inner, max_size=4)),
    max_leaves=12,
)


@given(st.lists(BLOCKS, max_size=4).map("\n".join), st.lists(BLOCKS, max_size=2).map("\n".join))
def test_no_configuration_is_too_odd(main: str, lock: str) -> None:
    """There are findings, each at a line of a file; never a traceback."""
    with contextlib.suppress(PipelineError):
        of_root = folders({"r/main.tf": main, "r/.terraform.lock.hcl": lock})
        for finding in terraform_rules.check(of_root):
            assert finding.path.startswith("r/")
            assert finding.line >= 1
            assert "\n" not in str(finding)
        terraform_rules.bars(of_root, terraform_rules.every(of_root))
