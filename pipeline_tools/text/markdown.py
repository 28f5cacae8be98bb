"""GitLab's Markdown with data in it: whatever a value is, it stays a value.

Data stands in code only. There nothing is markup, and GitLab looks for no mentions and references (its filters pass
over `code` and `pre`; docs.gitlab.com/user/markdown). A quick action is a line that begins with a slash
(docs.gitlab.com/user/project/quick_actions): data never begins a line and never ends one.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipeline_tools.text.printing import printed

LIMIT = 1_000_000
"""Characters of a note or an issue's description (docs.gitlab.com/administration/instance_limits)."""
_LONGEST = 300
"""Characters of data in a line of prose."""
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#%=&+-]+")
_MORE = 120
"""Characters that the line about what is left out of a section has at most."""


def line(text: str) -> str:
    """`text` without anything that ends a line or moves on it."""
    encodable = text.encode(errors="replace").decode()
    return printed(encodable).replace("\n", "\\n").replace("\t", "\\t")


def _cut(text: str) -> str:
    shown = line(text)
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"


def code(text: str) -> str:
    """`text` as a code span (CommonMark 6.1): between more backticks than it has in a row."""
    shown = _cut(text)
    ticks = "`" * (_run(shown) + 1)
    # A blank at both ends is taken away again, so that backticks and blanks of the text stay.
    return f"{ticks} {shown} {ticks}"


def html_code(text: str) -> str:
    """`text` as code inside an HTML block, such as a `<summary>`."""
    return f"<code>{html.escape(_cut(text))}</code>"


def fence(lines: Iterable[str], language: str) -> str:
    """A fenced block (CommonMark 4.5); the fence is longer than any run of backticks in it."""
    content = "\n".join(map(line, lines))
    ticks = "`" * max(3, _run(content) + 1)
    return f"{ticks}{language}\n{content}\n{ticks}\n"


def link(label: str, url: str) -> str:
    """A link with our `label`, where `url` is a plain web address; otherwise the address as code."""
    return f"[{label}](<{url}>)" if _URL.fullmatch(url) else f"{label}: {code(url)}"


def folded(summary: str, content: str) -> str:
    """A section that opens on a click; `summary` is HTML. The blank lines part Markdown from HTML (CommonMark 4.6)."""
    return f"<details><summary>{summary}</summary>\n\n{content}\n</details>\n\n"


def _run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


@dataclass(frozen=True)
class Entry:
    """One thing in a section: as a line of a list, and where there is more to see, with that folded under it."""

    listed: str
    folded: str = ""

    @property
    def best(self) -> str:
        return self.folded or self.listed


@dataclass(frozen=True)
class Section:
    title: str
    entries: Sequence[Entry]


def fitted(head: str, sections: Sequence[Section], foot: str, limit: int) -> str:
    """All of it, or as much as `limit` characters hold.

    Sections stand in the order of their importance. Everything is listed first, as far as it goes, and folds are
    opened with what is left; so lines stay as long as possible, and no fence or fold is cut.

    Raises:
        ValueError: not even head, foot and the sections' titles fit.
    """
    sections = [section for section in sections if section.entries]
    left = limit - len(head) - len(foot) - sum(len(_title(section)) + 1 + _MORE for section in sections)
    if left < 0:
        raise ValueError(f"{limit} characters are too few")
    numbers = []
    for section in sections:
        number, left = _fitting([len(entry.listed) for entry in section.entries], left)
        numbers.append(number)
    texts = []
    for section, number in zip(sections, numbers, strict=True):
        costs = [len(entry.best) - len(entry.listed) + 1 for entry in section.entries[:number]]
        opened, left = _fitting(costs, left)
        texts.append("".join(_section(section, number, opened)))
    return head + "".join(texts) + foot


def _fitting(costs: Sequence[int], left: int) -> tuple[int, int]:
    """How many from the beginning fit, and what is left then."""
    for number, cost in enumerate(costs):
        if cost > left:
            return number, left
        left -= max(cost, 0)
    return len(costs), left


def _title(section: Section) -> str:
    return f"#### {section.title} ({len(section.entries)})\n\n"


def _section(section: Section, number: int, opened: int) -> Iterator[str]:
    yield _title(section)
    yield from (entry.best for entry in section.entries[:opened])
    yield from (entry.listed for entry in section.entries[opened:number])
    unlisted = len(section.entries) - number
    unopened = sum(bool(entry.folded) for entry in section.entries[opened:number])
    if unlisted or unopened:
        what = [f"{unlisted} more" if unlisted else "", f"the details of {unopened}" if unopened else ""]
        yield f"\n_Left out for length: {' and '.join(filter(None, what))}; see the log of the job._\n"
    yield "\n"
