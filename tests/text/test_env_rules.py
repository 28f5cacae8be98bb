"""The rules of an env repository: what is refused in the file, and what they forbid when."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import env_rules
from pipeline_tools.text.env_rules import FreezeWindow, Target

EXAMPLE = Path(__file__).parents[2] / "examples" / "env" / env_rules.FILE_NAME
WEEKEND = """schema: 1
freeze_windows:
- freeze_start: 0 18 * * 5
  freeze_end: 0 7 * * 1
  cron_timezone: Europe/Paris
  overlays: [overlays/prod]
  reason: nobody is there
holds:
- images: [demo-*]
  overlays: [apps/*/prod]
  reason: incident 12
  by: Anna
  since: 2026-11-01T00:00:00Z
  until: 2026-12-01T00:00:00+01:00
"""
PROD = Target("overlays/prod", "demo-app")
HELD = Target("apps/shop/prod", "demo-app")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def said(target: Target, when: str) -> list[str]:
    return [str(found) for found in env_rules.objections(env_rules.loads(WEEKEND), [target], at(when))]


def test_a_freeze_names_line_reason_and_end() -> None:
    assert said(PROD, "2026-11-21T12:00:00Z") == [
        ".pipeline-tools.yml:3: overlays/prod is frozen (nobody is there) until 2026-11-23T07:00:00+01:00"
    ]


@pytest.mark.parametrize(
    ("when", "is_frozen"),
    [
        ("2026-11-20T17:59:59+01:00", False),
        ("2026-11-20T18:00:00+01:00", True),
        ("2026-11-20T17:00:00+00:00", True),
        ("2026-11-23T06:59:59.999999+01:00", True),
        ("2026-11-23T07:00:00+01:00", False),
    ],
)
def test_a_freeze_includes_its_start_and_not_its_end(when: str, *, is_frozen: bool) -> None:
    assert bool(said(PROD, when)) is is_frozen


def test_a_freeze_leaves_other_overlays_alone() -> None:
    assert said(Target("overlays/dev", "demo-app"), "2026-11-21T12:00:00Z") == []


@pytest.mark.parametrize(
    ("target", "when", "is_held"),
    [
        (HELD, "2026-11-10T00:00:00Z", True),
        (HELD, "2026-10-31T23:59:59Z", False),
        (HELD, "2026-11-30T22:59:59Z", True),
        (HELD, "2026-11-30T23:00:00Z", False),
        (Target("apps/shop/prod", "other"), "2026-11-10T00:00:00Z", False),
        (Target("apps/shop/web/prod", "demo-app"), "2026-11-10T00:00:00Z", False),
        (Target("apps/shop/dev", "demo-app"), "2026-11-10T00:00:00Z", False),
    ],
)
def test_a_hold_is_for_its_images_in_its_overlays_while_it_lasts(
    target: Target, when: str, *, is_held: bool
) -> None:
    assert bool(said(target, when)) is is_held


def test_a_hold_says_who_and_when_it_ends() -> None:
    assert said(HELD, "2026-11-10T00:00:00Z") == [
        ".pipeline-tools.yml:9: demo-app in apps/shop/prod is held by Anna (incident 12) until 2026-12-01T00:00:00+01:00"
    ]


def test_a_hold_without_an_end_lasts_until_it_is_taken_out() -> None:
    rules = env_rules.loads("schema: 1\nholds:\n- {overlays: ['**'], reason: r, by: b}\n")
    found = env_rules.objections(rules, [HELD], at("2040-01-01T00:00:00Z"))
    assert [str(row).endswith("until it is taken out of the file") for row in found] == [True]


@pytest.mark.parametrize(
    ("glob", "folder", "matches"),
    [
        ("overlays/*", "overlays/prod", True),
        ("overlays/*", "overlays/eu/prod", False),
        ("**/prod", "overlays/eu/prod", True),
        ("**/prod", "prod", True),
        ("**/prod", "nonprod", False),
        ("overlays/**", "overlays/eu/prod", True),
        ("overlays/pro?", "overlays/prod", True),
        ("overlays/prod", "overlays/prod2", False),
        ("overlays/p.od", "overlays/prod", False),
    ],
)
def test_globs_of_folders(glob: str, folder: str, *, matches: bool) -> None:
    rules = env_rules.loads(f"schema: 1\nholds: [{{overlays: ['{glob}'], reason: r, by: b}}]\n")
    assert bool(env_rules.objections(rules, [Target(folder, "x")], datetime.now(UTC))) is matches


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", 1, "the file is empty"),
        ("schema: 2\n", 1, "not a whole number from 1 to 1"),
        ("freeze_windows: []\n", 1, "lacks schema"),
        ("schema: 1\npromotion: {}\n", 2, "knows no 'promotion'"),
        ("schema: 1\nschema: 1\n", 2, "stands twice"),
        ("schema: 1\nholds: [\n", 3, "malformed YAML"),
        (
            "schema: 1\nfreeze_windows:\n- freeze_start: 0 0 * *\n  freeze_end: 0 1 * * *\n",
            3,
            "no cron expression",
        ),
        (
            "schema: 1\nfreeze_windows:\n- freeze_start: 0 0 30 2 *\n  freeze_end: 0 1 * * *\n",
            3,
            "no cron expression",
        ),
        ("schema: 1\nfreeze_windows:\n- freeze_start: 0 0 * * *\n", 3, "lacks freeze_end"),
        (
            "schema: 1\nfreeze_windows:\n- freeze_start: 0 0 * * *\n  freeze_end: 0 1 * * *\n  cron_timezone: Mars/X\n",
            5,
            "no time zone",
        ),
        (
            "schema: 1\nfreeze_windows:\n- freeze_start: 0 0 * * *\n  freeze_end: 0 1 * * *\n  cron_timezone: ../etc\n",
            5,
            "no time zone",
        ),
        (
            "schema: 1\nfreeze_windows:\n- freeze_start: 0 0 * * *\n  freeze_end: 0 1 * * *\n  overlays: [../x]\n",
            5,
            "no glob of folders",
        ),
        ("schema: 1\nholds:\n- {reason: r, by: b}\n", 3, "names neither images nor overlays"),
        ("schema: 1\nholds:\n- {images: [a], by: b}\n", 3, "lacks reason"),
        ("schema: 1\nholds:\n- {images: [], reason: r, by: b}\n", 3, "needs at least 1"),
        (
            "schema: 1\nholds:\n- images: [a]\n  reason: r\n  by: b\n  until: 2026-12-24\n",
            6,
            "no date and time",
        ),
        ("schema: 1\nholds:\n- images: [a]\n  reason: r\n  by: b\n  until: soon\n", 6, "no date and time"),
        (
            (
                "schema: 1\nholds:\n- images: [a]\n  reason: r\n  by: b\n  since: 2026-12-24T00:00:00Z\n"
                "  until: 2026-12-23T00:00:00Z\n"
            ),
            3,
            "ends before it begins",
        ),
        ('schema: 1\nholds:\n- images: [a]\n  reason: "r\\nForged: x"\n  by: b\n', 4, "no line of at most"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, expected: str) -> None:
    with pytest.raises(PipelineError) as caught:
        env_rules.loads(text)
    assert caught.value.message.startswith(f".pipeline-tools.yml:{line}: ")
    assert expected in caught.value.message


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(PipelineError) as caught:
        env_rules.loads("schema: 1\nholds:\n- {images: [a], by: b}\nother: 1\n")
    assert "line 4: knows no 'other'" in caught.value.hint


def test_the_example_freezes_nothing() -> None:
    rules = env_rules.loads(EXAMPLE.read_text())
    assert env_rules.objections(rules, [PROD, Target("overlays/dev", "demo-app")], datetime.now(UTC)) == ()


# Time ----------------------------------------------------------------------------------------------------------

ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Asia/Kolkata",
)
TURNS = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Paris forward
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # Paris back
    datetime(2026, 3, 8, 7, tzinfo=UTC),  # New York forward
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # New York back
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe back, by half an hour
)
MINUTES = st.sampled_from(["0", "15", "30", "59"])
HOURS = st.sampled_from(["0", "1", "2", "3", "8", "23", "*"])
DAYS = st.sampled_from(["*", "0", "1-5", "6"])


@st.composite
def expressions(draw: st.DrawFn) -> str:
    return f"{draw(MINUTES)} {draw(HOURS)} * * {draw(DAYS)}"


@st.composite
def instants(draw: st.DrawFn) -> datetime:
    """Near a change of the clocks, to the minute or just beside it."""
    near = timedelta(
        minutes=draw(st.integers(-3 * 1440, 3 * 1440)), seconds=draw(st.sampled_from([-1, 0, 1]))
    )
    return draw(st.sampled_from(TURNS)) + near


def forward(expression: str, zone: str, now: datetime) -> list[datetime]:
    """Every time the expression comes true from nine days before to nine days after, by counting forward only."""
    begin = (now - timedelta(days=9)).astimezone(ZoneInfo(zone))
    found: list[datetime] = []
    for tick in CronSim(expression, begin):
        if tick.astimezone(UTC) > now + timedelta(days=9):
            return found
        found.append(tick.astimezone(UTC))
    return found


def ends_at(window: FreezeWindow, now: datetime) -> datetime | None:
    """In UTC: on a wall clock an hour may be missing or there twice, and such times equal none of another zone (PEP 495)."""
    found = env_rules.freeze_end(window, now)
    return found and found.astimezone(UTC)


@given(expressions(), expressions(), st.sampled_from(ZONES), instants())
def test_frozen_is_what_has_a_start_behind_it_and_no_end_since(
    start: str, end: str, zone: str, now: datetime
) -> None:
    """Against a plain count of all starts and ends, around the changes of the clocks."""
    starts, ends = forward(start, zone, now), forward(end, zone, now)
    last = max(tick for tick in starts if tick <= now)
    is_frozen = not any(last <= tick <= now for tick in ends)
    expected = min(tick for tick in ends if tick > now) if is_frozen else None
    assert ends_at(FreezeWindow(start, end, zone), now) == expected


@given(expressions(), expressions(), st.sampled_from(ZONES), instants())
def test_at_its_end_a_freeze_is_over(start: str, end: str, zone: str, now: datetime) -> None:
    window = FreezeWindow(start, end, zone)
    ends = ends_at(window, now)
    if ends is not None:
        assert ends > now
        assert ends_at(window, ends) is None
        assert ends_at(window, ends - timedelta(microseconds=1)) == ends


def test_a_freeze_that_ends_where_clocks_jump() -> None:
    window = FreezeWindow("0 0 * * *", "0 2 * * *", "Europe/Paris")
    assert ends_at(window, datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)) == datetime(
        2026, 3, 29, 1, tzinfo=UTC
    )
