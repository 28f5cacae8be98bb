"""Images and their owners in what kustomize prints."""

import pytest

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.rendered import Move, Owner, Use, difference, moves, table, uses

CONFIG = "apiVersion: v1\ndata:\n  image: not:one\nkind: ConfigMap\nmetadata:\n  name: c\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  key: {}\n"
DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
      - image: {app}
        name: app
      - image: proxy:1
        name: proxy
      initContainers:
      - image: {app}
        name: migrate
"""
RESOURCE = "apiVersion: x/v1\nkind: Runner\nmetadata:\n  name: r\nspec:\n  image: {}\n  steps:\n  - image: a:1\n  - image: b:1\n"


def printed(app: str = "app:1", other: str = "cr:1", key: str = "one") -> str:
    objects = (CONFIG, SECRET.format(key), DEPLOYMENT.format(app=app), RESOURCE.format(other))
    return "---\n".join(objects)


def test_every_image_has_its_owner() -> None:
    web, runner = Owner("Deployment", "shop", "web"), Owner("Runner", "", "r")
    found = [(use.owner, use.container, use.image) for use in uses(printed())]
    assert found == [
        (web, "app", "app:1"),
        (web, "migrate", "app:1"),
        (web, "proxy", "proxy:1"),
        (runner, "spec", "cr:1"),
        (runner, "spec.steps[0]", "a:1"),
        (runner, "spec.steps[1]", "b:1"),
    ]


def test_moves_are_what_changes() -> None:
    found = moves("overlays/dev", printed(), printed("app:2", "cr:2"))
    assert found == (
        Move("overlays/dev", "Deployment", "shop", "web", "app", "app:1", "app:2"),
        Move("overlays/dev", "Deployment", "shop", "web", "migrate", "app:1", "app:2"),
        Move("overlays/dev", "Runner", "", "r", "spec", "cr:1", "cr:2"),
    )
    assert str(found[0]) == "shop/Deployment/web app: app:1 -> app:2"
    assert moves("x", printed(), printed()) == ()


def test_a_workload_that_comes_or_goes_moves_too() -> None:
    (came, *_) = moves("x", CONFIG, printed())
    assert (came.before, came.after) == ("", "app:1")
    assert "(none) -> app:1" in str(came)


def test_containers_of_one_name_are_told_apart() -> None:
    """An Argo Workflow has one container `main` a template."""
    text = (
        "kind: Workflow\nmetadata:\n  name: w\nspec:\n  templates:\n"
        "  - container:\n      image: {}\n      name: main\n  - container:\n      image: b:1\n      name: main\n"
    )
    assert [(move.before, move.after) for move in moves("x", text.format("a:1"), text.format("a:2"))] == [
        ("a:1", "a:2")
    ]


def test_the_difference_shows_no_other_object_and_no_secret() -> None:
    text = difference("overlays/dev", printed(key="hunter2"), printed("app:2", key="hunter3"))
    assert "-      - image: app:1\n+      - image: app:2\n" in text
    assert "overlays/dev Secret/s differs\n" in text
    assert "hunter" not in text
    assert "not:one" not in text
    assert difference("x", printed(), printed()) == ""


def test_a_note_keeps_data_as_data() -> None:
    move = Move("o", "Deployment", "", "web`\n/close", "app", "", "app:2")
    assert table([move]) == "- ` o `: `` Deployment/web`\\n/close `` ` app `: ` none ` → ` app:2 `\n"


def test_what_is_no_yaml_is_said() -> None:
    with pytest.raises(PipelineError, match="not YAML"):
        uses("image: a\nb: [\n")


def test_a_use_reads_as_a_sentence() -> None:
    assert str(Use(Owner("Pod", "", "p"), "main", "a:1", "spec")) == "a:1 (Pod/p, main)"
