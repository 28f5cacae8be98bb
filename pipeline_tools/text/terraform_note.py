"""A plan for the people of a merge request, and drift for the readers of an issue, in GitLab's Markdown."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from pipeline_tools.text import markdown
from pipeline_tools.text.markdown import Entry, Section
from pipeline_tools.text.passport import Passport, Review, Verdict
from pipeline_tools.text.plan_review import Comparison
from pipeline_tools.text.terraform_kapsule import Note
from pipeline_tools.text.terraform_plan import Action, Change, Check, Counts, Output, Summary
from pipeline_tools.text.terraform_values import Attribute

LEAST = 6_000
"""Characters that any note needs for what stands around the sections."""
_MOST_CAUSES = 3
_MOST_LINES = 200

_TITLES = {
    Action.DELETE: "Delete",
    Action.REPLACE: "Replace",
    Action.FORGET: "Forget (stays, no longer managed)",
    Action.UPDATE: "Update",
    Action.CREATE: "Create",
    Action.NO_OP: "Move or import",
    Action.READ: "Read during apply",
}
_VERDICTS = {
    Verdict.AS_REVIEWED: "✅ **As reviewed**: this plan does what the reviewed one does.",
    Verdict.DIFFERS: "⚠️ **Differs from the reviewed plan**: automatic apply is off.",
    Verdict.NOT_REVIEWED: "⚠️ **Not reviewed**: there is no reviewed plan for these files.",
    Verdict.NOT_COMPARABLE: "⚠️ **Not comparable** with the reviewed plan: sensitive values change without a key.",
}
_SIGNS = {"danger": "🛑", "warning": "⚠️", "notice": "ℹ️"}  # noqa: RUF001 (the sign, not the letter)


@dataclass(frozen=True)
class Issue:
    """Title and description of an issue."""

    title: str
    body: str


def marker(root: str) -> str:
    """The hidden first line by which the note of `root` is found again; encoded, so that no root can end it."""
    return f"<!-- pipeline-tools terraform plan {_encoded(root)} -->"


def drift_marker(root: str) -> str:
    """The same for the issue about drift."""
    return f"<!-- pipeline-tools terraform drift {_encoded(root)} -->"


def _encoded(root: str) -> str:
    return quote(root, safe="/", errors="replace").replace("--", "%2D%2D")


def render(
    passport: Passport,
    summary: Summary,
    *,
    notes: Iterable[Note] = (),
    comparison: Comparison | None = None,
    limit: int = markdown.LIMIT,
) -> str:
    """The note on a plan; `limit` characters at most.

    Args:
        passport: what was planned, and where.
        summary: the same plan, for what a passport does not hold: what is deferred, and checks.
        notes: what a reviewer should know (`terraform_kapsule.notes`).
        comparison: with the reviewed plan, for its lines.
        limit: characters, `LEAST` or more.
    """
    head = [marker(passport.root), "", f"### Terraform plan of {markdown.code(passport.root)}", ""]
    head += [f"**{in_words(passport.counts)}**", ""]
    head += _warnings(passport, summary)
    sections = [
        Section(
            "Differs from what was reviewed", _some([_plain(line) for line in (comparison or _NONE).lines])
        ),
        Section("For the reviewer", _some([_note(note) for note in notes])),
        *_sections(passport.changes),
        Section("Checks that did not pass", [_check(check) for check in summary.failed_checks]),
        Section("Outputs", [_output(output) for output in summary.outputs]),
        Section("Changed outside Terraform", [_change(change) for change in passport.drift]),
        Section("Deferred to a later plan", [_change(late.change, late.reason) for late in summary.deferred]),
    ]
    return markdown.fitted("\n".join(head) + "\n", sections, _foot(passport), limit)


def _some(entries: list[Entry]) -> list[Entry]:
    """Not so many that no room is left for the changes themselves."""
    more = len(entries) - _MOST_LINES
    return entries if more <= 0 else [*entries[:_MOST_LINES], Entry(f"- and {more} more\n")]


_NONE = Comparison(Verdict.NOT_REVIEWED, ())


def drift_issue(
    root: str,
    summary: Summary,
    unapplied: Collection[str],
    *,
    pipeline: str = "",
    limit: int = markdown.LIMIT,
) -> Issue:
    """The issue about a root that is not as its configuration says.

    What changed outside Terraform stands apart from configuration that nobody has applied: the cure of the one is to
    apply or to write it down, that of the other to apply.

    Args:
        root: the root's folder.
        summary: a plan of it, with refresh.
        unapplied: addresses of the changes that newer configuration asks for.
        pipeline: the address of the pipeline that found it.
        limit: characters of the body, `LEAST` or more.
    """
    waiting = [change for change in summary.changes if change.address in unapplied]
    head = [drift_marker(root), "", f"{markdown.code(root)} is not as its configuration says.", ""]
    sections = [
        Section("Drift: changed outside Terraform", [_change(change) for change in summary.drift]),
        Section(
            "Drift: what an apply would change back",
            [_change(change, change.action.value) for change in summary.changes if change not in waiting],
        ),
        Section(
            "Configured, and not applied yet", [_change(change, change.action.value) for change in waiting]
        ),
        Section("Outputs that would change", [_output(output) for output in summary.outputs]),
        Section("Checks that did not pass", [_check(check) for check in summary.failed_checks]),
    ]
    foot = f"---\n{markdown.link('pipeline', pipeline)}\n" if pipeline else ""
    body = markdown.fitted("\n".join(head) + "\n", sections, foot, limit)
    return Issue(f"Terraform drift in {_titled(root)}", body)


def _titled(root: str) -> str:
    """A title knows references and mentions, but no code: what could be one is left out."""
    return "".join(character if character.isalnum() or character in "/._- " else "_" for character in root)[
        :150
    ]


def in_words(counts: Counts) -> str:
    """`2 to create, 1 to replace`, or `No changes`."""
    words = {
        "delete": counts.delete,
        "replace": counts.replace,
        "update": counts.update,
        "create": counts.create,
        "forget": counts.forget,
        "move": counts.move,
        "import": counts.import_,
        "read": counts.read,
    }
    found = [f"{number} to {word}" for word, number in words.items() if number]
    also = [f"{counts.drift} changed outside Terraform"] if counts.drift else []
    also += [f"{counts.deferred} deferred"] if counts.deferred else []
    return ", ".join([*(found or ["No changes"]), *also])


def _warnings(passport: Passport, summary: Summary) -> list[str]:
    review = passport.review or Review(Verdict.NOT_REVIEWED)
    of = f" (passport {markdown.code(review.passport)})" if review.passport else ""
    found = [_VERDICTS[review.verdict] + of] if passport.review else []
    if passport.mode == "destroy":
        found.append("🛑 **This plan destroys the whole root.**")
    if summary.is_errored or not summary.is_complete:
        found.append("⚠️ The plan is not complete: another one is needed after it.")
    if passport.is_dirty:
        found.append("⚠️ The plan was made from files that are not committed.")
    if passport.has_unkeyed:
        found.append(
            "⚠️ Sensitive values change, and without a key no later plan can be compared with this one."
        )
    return [part for line in found for part in (line, "")]


def _foot(passport: Passport) -> str:
    parts = [
        f"passport {markdown.code(passport.id)}",
        markdown.code(f"{passport.tool.name} {passport.tool.version}"),
        markdown.link("pipeline", passport.made.pipeline),
        markdown.link("job", passport.made.job),
    ]
    return f"---\n{' · '.join(parts)}\n"


def _sections(changes: Iterable[Change]) -> Iterator[Section]:
    by_action: dict[Action, list[Change]] = {}
    for change in changes:
        by_action.setdefault(change.action, []).append(change)
    for action, title in _TITLES.items():
        yield Section(title, [_change(change) for change in by_action.get(action, ())])


def _change(change: Change, reason: str = "") -> Entry:
    listed = f"- {_said(change, reason, markdown.code)}\n"
    diff = _diff(change.attributes, change.attributes_left_out)
    return Entry(listed, markdown.folded(_said(change, reason, markdown.html_code), diff) if diff else "")


def _said(change: Change, reason: str, code: Callable[[str], str]) -> str:
    said = code(change.address)
    if reason:
        said += f": {code(reason)}"
    if change.replaced_by:
        said += f", forced by {', '.join(map(code, change.replaced_by[:_MOST_CAUSES]))}"
    if change.previous_address is not None:
        said += f", moved from {code(change.previous_address)}"
    if change.importing is not None:
        said += f", imported from {code(change.importing)}"
    return said


def _output(output: Output) -> Entry:
    action = "replace" if len(output.actions) > 1 else "".join(output.actions)
    listed, summary = (f"{code(output.name)}: {code(action)}" for code in (markdown.code, markdown.html_code))
    diff = _diff(output.attributes, output.attributes_left_out)
    return Entry(f"- {listed}\n", markdown.folded(summary, diff) if diff else "")


def _diff(attributes: Iterable[Attribute], left_out: int) -> str:
    lines = [line for attribute in attributes for line in _sides(attribute)]
    if left_out:
        lines.append(f"# and {left_out} more attributes")
    return markdown.fence(lines, "diff") if lines else ""


def _sides(attribute: Attribute) -> Iterator[str]:
    name = attribute.path or "value"
    if attribute.before == attribute.after and not attribute.is_sensitive:
        yield f"  {name} = {attribute.before}"
        return
    if attribute.before is not None:
        yield f"- {name} = {_shown(attribute.before, attribute)}"
    if attribute.after is not None:
        yield f"+ {name} = {_shown(attribute.after, attribute)}"


def _shown(value: str, attribute: Attribute) -> str:
    """A sensitive value's hash is for comparing; a person reads that it is one."""
    return "(sensitive value)" if attribute.is_sensitive and value.startswith("hmac-") else value


def _check(check: Check) -> Entry:
    problems = "".join(f": {markdown.code(problem)}" for problem in check.problems)
    return Entry(f"- {markdown.code(check.address)} {markdown.code(check.status)}{problems}\n")


def _note(note: Note) -> Entry:
    # Line and hint are constants of `terraform_kapsule`.
    return Entry(f"- {_SIGNS[note.severity]} {markdown.code(note.address)}: {note.line}. _{note.hint}_\n")


def _plain(text: str) -> Entry:
    return Entry(f"- {markdown.code(text)}\n")
