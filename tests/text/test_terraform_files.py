"""What a folder's configuration says, which folders make a root, and which roots a change touches."""

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import terraform_files, terraform_roots
from pipeline_tools.text.terraform_files import Source

MAIN = """\
terraform {
  required_version = ">= 1.11"
  backend "gcs" {
    bucket = "states"
  }
  required_providers {
    scaleway = {
      source  = "scaleway/scaleway"
      version = "~> 2.81"
    }
    old = "1.0"
  }
}
provider "scaleway" {
  region = "fr-par"
}
provider "helm" {
  kubernetes = {
    exec = { command = "x" }
  }
}
module "near" {
  source = "./modules/near"
}
data "http" "a" {}
check "c" {
  data "external" "b" {}
}
resource "google_x" "c" {
  provider = google-beta.west
  provisioner "local-exec" {}
}
"""
LOCK = """\
provider "registry.terraform.io/scaleway/scaleway" {
  version     = "2.81.0"
  constraints = "~> 2.81"
  hashes = [
    "h1:abc=",
    "zh:def",
  ]
}
"""


def test_what_a_folder_says() -> None:
    folder = terraform_files.read("r", {"r/main.tf": MAIN, "r/.terraform.lock.hcl": LOCK})
    (backend,) = folder.backends
    assert (backend.type, backend.settings, backend.line) == ("gcs", {"bucket": 4}, 3)
    assert folder.required_version == ">= 1.11"
    assert [(item.name, item.source, item.version, item.line) for item in folder.requirements] == [
        ("scaleway", "scaleway/scaleway", "~> 2.81", 7),
        ("old", None, "1.0", 11),
    ]
    assert [(item.name, item.runs) for item in folder.providers] == [("scaleway", None), ("helm", 18)]
    (call,) = folder.modules
    assert (call.name, call.source, call.kind, call.line) == ("near", "./modules/near", Source.LOCAL, 23)
    assert [(use.block, use.type, use.provider) for use in folder.uses] == [
        ("data", "http", "http"),
        ("data", "external", "external"),
        ("resource", "google_x", "google-beta"),
        ("provisioner", "local-exec", "local-exec"),
    ]
    (locked,) = folder.locked
    assert (locked.version, locked.constraints, locked.hashes) == ("2.81.0", "~> 2.81", ("h1:abc=", "zh:def"))
    assert folder.has_lock_file
    assert folder.problems == ()


def test_a_test_calls_modules_too() -> None:
    text = 'run "a" {\n  module {\n    source = "./helper"\n  }\n}\n'
    (call,) = terraform_files.read("r", {"r/tests/a.tftest.hcl": text}).modules
    assert (call.name, call.source) == ("a", "./helper")


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("r/main.tf", True), ("r/x.tf.json", True), ("r/tests/a.tftest.hcl", True), ("r/a.tofu", True),
        ("r/.terraform.lock.hcl", True), ("r/.hidden.tf", False), ("r/main.tf~", False), ("r/#main.tf#", False),
        ("r/terraform.tfvars", False), ("r/README.md", False),
    ],
)  # fmt: skip
def test_which_files_are_configuration(name: str, is_read: bool) -> None:
    assert terraform_files.is_configuration(name) is is_read


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("./a", Source.LOCAL), ("../a", Source.LOCAL), ("terraform-google-modules/vpn/google", Source.REGISTRY),
        ("registry.example.com/a/b/c", Source.REGISTRY), ("a/b/c//sub", Source.REGISTRY),
        ("git::https://example.com/a.git?ref=v1", Source.GIT), ("github.com/a/b", Source.GIT),
        ("git@example.com:a/b", Source.GIT), ("ssh://git@example.com/a", Source.GIT),
        ("https://example.com/a.git", Source.GIT), ("https://example.com/a.zip", Source.REMOTE),
        ("s3::https://s3.example.com/a.zip", Source.REMOTE), ("/etc/modules", Source.REMOTE),
        ("git::ext::sh -c x", Source.GIT), ("", Source.REMOTE), (None, Source.UNREADABLE),
    ],
)  # fmt: skip
def test_where_a_module_comes_from(source: str | None, kind: Source) -> None:
    assert terraform_files.source(source) is kind


def test_too_many_files_are_a_problem() -> None:
    files = {f"r/{number:04}.tf": "" for number in range(terraform_files.MOST_FILES + 5)}
    (problem,) = terraform_files.read("r", files).problems
    assert "more than 300 files" in problem.problem


# Roots ---------------------------------------------------------------------------------------------------------


def tree(files: Mapping[str, str]) -> terraform_roots.Reader:
    """A checkout whose files are given by their paths."""

    def reader(folder: str) -> Mapping[str, str]:
        return {path: text for path, text in files.items() if (path.rpartition("/")[0] or ".") == folder}

    return reader


def calls(*sources: str) -> str:
    return "".join(
        f'module "m{number}" {{\n  source = "{source}"\n}}\n' for number, source in enumerate(sources)
    )


def test_modules_of_modules_and_circles() -> None:
    files = {
        "envs/dev/main.tf": calls("../../modules/a", "./own", "../../../outside", "a/b/c"),
        "envs/dev/own/main.tf": "",
        "modules/a/main.tf": calls("../b"),
        "modules/b/main.tf": calls("../a", "../nowhere", "./"),
    }
    assert terraform_roots.local_modules("./envs/dev/", tree(files)) == (
        "envs/dev/own", "modules/a", "modules/b", "modules/nowhere",
    )  # fmt: skip


def test_a_chain_without_end_ends() -> None:
    with pytest.raises(PipelineError, match="more than 100 modules"):
        terraform_roots.folders("r", lambda folder: {f"{folder}/main.tf": calls("./x")})


def test_modules_that_are_too_large_together_end() -> None:
    comment = "#" * 250_000
    with pytest.raises(PipelineError, match="more than 2097152 characters"):
        terraform_roots.folders("r", lambda folder: {f"{folder}/main.tf": calls("./x") + comment})


@pytest.mark.parametrize("root", ["..", "../x", "/etc", "a/../../b", "a\0b", "a\\b"])
def test_a_root_stays_inside(root: str) -> None:
    with pytest.raises(PipelineError, match="outside the checkout"):
        terraform_roots.clean(root)


MODULES = {"envs/dev": ("modules/net",), "envs/prod": ("modules/net", "modules/db"), "hello": ()}


@pytest.mark.parametrize(
    ("paths", "touched", "gone"),
    [
        (["README.md"], (), ()),
        (["envs/dev/main.tf"], ("envs/dev",), ()),
        (["envs/dev/prod.auto.tfvars"], ("envs/dev",), ()),
        (["envs/dev/templates/a.tpl"], ("envs/dev",), ()),
        (["modules/net/main.tf"], ("envs/dev", "envs/prod"), ()),
        (["modules/db/x.tf", "hello/a.tf"], ("envs/prod", "hello"), ()),
        (["envs/development/main.tf"], (), ("envs/development",)),
        (["envs/old/main.tf", "envs/old/b.tf"], (), ("envs/old",)),
        (["main.tf"], (), (".",)),
    ],
)
def test_changed_roots(paths: list[str], touched: tuple[str, ...], gone: tuple[str, ...]) -> None:
    assert terraform_roots.changed(MODULES, MODULES, paths) == (touched, gone)


def test_a_root_inside_another_is_its_own() -> None:
    roots = {".": (), "infra": ()}
    assert terraform_roots.changed(roots, roots, ["infra/main.tf"]) == (("infra",), ())
    assert terraform_roots.changed(roots, roots, ["main.tf"]) == ((".",), ())


FOLDERS = ["envs/prod", "envs/dev", "envs/dev/deep", "hello", ".", ".hidden/root", "modules/a"]


@pytest.mark.parametrize(
    ("patterns", "roots"),
    [
        (["hello"], ("hello",)),
        (["./hello/", "hello"], ("hello",)),
        (["envs/*/"], ("envs/dev", "envs/prod")),
        (["hello", "envs/*"], ("hello", "envs/dev", "envs/prod")),
        (["envs/**"], ("envs/dev", "envs/dev/deep", "envs/prod")),
        (["**/deep"], ("envs/dev/deep",)),
        (["envs/[dx]?v"], ("envs/dev",)),
        (["."], (".",)),
        (["**"], (".", "envs/dev", "envs/dev/deep", "envs/prod", "hello", "modules/a")),
        ([".hidden/*"], (".hidden/root",)),
    ],
)
def test_roots_by_pattern(patterns: list[str], roots: tuple[str, ...]) -> None:
    assert terraform_roots.expand(patterns, FOLDERS) == roots


@pytest.mark.parametrize("pattern", ["nowhere", "env*/x*", "e?v", "hello/*", "../*", "/etc"])
def test_a_pattern_that_finds_nothing_is_an_error(pattern: str) -> None:
    with pytest.raises(PipelineError, match=r"matches no folder|outside the checkout"):
        terraform_roots.expand([pattern], FOLDERS)


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "x/y"]), min_size=1, max_size=6).map("/".join))
def test_no_module_is_read_outside(source: str) -> None:
    read: list[str] = []

    def reader(folder: str) -> Mapping[str, str]:
        read.append(folder)
        return {"r/s/main.tf": calls(f"./{source}", f"../{source}")} if folder == "r/s" else {}

    terraform_roots.folders("r/s", reader)
    assert all(not terraform_roots.is_outside(folder) for folder in read)


@given(st.text("ab*?[]./!-", max_size=12))
def test_no_pattern_is_too_odd(pattern: str) -> None:
    with contextlib.suppress(PipelineError):
        assert set(terraform_roots.expand([pattern], FOLDERS)) <= set(FOLDERS)
