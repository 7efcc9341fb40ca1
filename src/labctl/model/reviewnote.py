"""A review as Markdown for a merge request: a table by stack, details folded, secrets masked, cut where it is too long. Pure."""

from __future__ import annotations

import difflib
import html
import json
import re
from collections.abc import Iterator
from typing import Any

from labctl.model.difference import AttributeChange, attribute_changes, reaches_only_new_guests
from labctl.model.plan import Action, ResourceChange, StackStatus
from labctl.model.review import DESCRIPTION, Review, ReviewedStack, Why

MOST_CHARACTERS = 1_000_000
"""What GitLab takes as the body of a note. Source: GitLab, "Application limits", size of comments."""

_COUNTS = ("add", "change", "replace", "destroy")
_SIGNS = {Action.CREATE: "+", Action.UPDATE: "!", Action.REPLACE: "-/+", Action.DELETE: "-", Action.FORGET: "#"}
_MASK = "(sensitive)"
_VALUE = 120
_LINES = 40
_FILES = 12
_ROWS_SHARE = 2
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~$&!@])")


def marker(lab: str) -> str:
    """What a lab's note begins with, so that it is found again; Markdown does not show it."""
    return f"<!-- labctl review of {lab} -->"


def note(review: Review, *, limit: int = MOST_CHARACTERS, link: str = "") -> str:
    """The note.

    Args:
        review: The review.
        limit: How many characters it may have; what does not fit is named, with the link.
        link: Where the rest can be read: the job.
    """
    where = f"[the job]({link})" if link else "the output of `labctl review`"
    head = "\n".join((marker(review.lab), *_head(review)))
    rows = list(_rows(review))
    cut_rows = _fitting(rows, limit // _ROWS_SHARE - len(head))
    more = f"\n… and {len(rows) - len(cut_rows)} more stacks; see {where}." if len(cut_rows) < len(rows) else ""
    parts = [head, *(("\n".join(_TABLE + cut_rows) + more,) if rows else ())]
    footer = _footer(review, link)
    room = limit - sum(len(part) + 2 for part in parts) - len(footer) - 2 - _told(where, review)
    left = []
    for stack in review.stacks:
        text = _details(stack)
        if not text:
            continue
        if len(text) + 2 > room:
            left.append(stack.plan.stack)
            continue
        room -= len(text) + 2
        parts.append(text)
    if left:
        parts.append(f"Too long for a note, so left out: details of {len(left)} of {len(review.stacks)} stacks. See {where}.")
    return "\n\n".join((*parts, footer))[:limit]


def _told(where: str, review: Review) -> int:
    """Room for the sentence about what is left out."""
    return len(where) + 2 * len(str(len(review.stacks))) + 80


def _fitting(rows: list[str], room: int) -> list[str]:
    found, used = [], 0
    for row in rows:
        used += len(row) + 1
        if used > room:
            break
        found.append(row)
    return found


_TABLE = ["| stack | | result | add | change | replace | destroy |", "|---|---|---|--:|--:|--:|--:|"]


def _head(review: Review) -> Iterator[str]:
    yield f"### labctl review: {_plain(review.lab)}"
    yield ""
    shown = [stack for stack in review.stacks if _shown(stack)]
    if not review.change.reasons:
        yield "No stack is concerned: `labctl up` would do the same as before."
    elif not review.fine:
        bad = [stack for stack in shown if not stack.planned or stack.refused]
        yield f"**{len(bad)} of {len(shown)} stacks would not go through.**"
    elif all(stack.plan.status is StackStatus.NO_CHANGES for stack in shown):
        yield "Nothing would change."
    else:
        yield "What `labctl up` would do:"
    for name in review.change.gone:
        yield f"\n⚠ Stack `{name}` is gone. `labctl up` leaves what it has made: run `labctl down {name}` before the merge."
    if review.change.caveat:
        yield f"\n⚠ {_plain(review.change.caveat)}"


def _shown(stack: ReviewedStack) -> bool:
    return stack.why is not Why.NEEDED or stack.plan.status is not StackStatus.NO_CHANGES


def _rows(review: Review) -> Iterator[str]:
    for stack in review.stacks:
        if _shown(stack):
            counts = stack.plan.summary.counts() if stack.plan.summary else {}
            numbers = " | ".join(str(counts.get(word) or "") for word in _COUNTS)
            yield f"| `{stack.plan.stack}` | {stack.why} | {_result(stack)} | {numbers} |"


def _result(stack: ReviewedStack) -> str:
    if stack.refused:
        return f"⛔ {stack.plan.status}, refused"
    if not stack.planned:
        return f"❌ {stack.plan.status}"
    warned = " ⚠" if stack.violations else ""
    if stack.plan.status is StackStatus.NO_CHANGES:
        return f"✅ {stack.plan.status}{warned}"
    waits = stack.plan.known_after
    return f"{stack.plan.status}{warned}" + (f", some known after {' and '.join(f'`{n}`' for n in waits)}" if waits else "")


def _details(stack: ReviewedStack) -> str:
    """One stack folded; "" where there is nothing to say."""
    plan = stack.plan
    said = [
        f"{'⚠' if one.warns else '⛔'} {_plain(f'[{one.rule}] {one.sentence}')} {_plain(one.remedy)}" for one in stack.violations
    ]
    if not stack.planned:
        said.append(_plain(plan.reason or str(plan.status)) + (f"  \n{_plain(stack.hint)}" if stack.hint else ""))
    if plan.summary is not None:
        said += [
            f"Guest `{name}` keeps the cloud-init of its first boot: the edit reaches only new guests."
            for name in reaches_only_new_guests(plan.summary)
        ]
    files = [path for path in stack.reasons if path != DESCRIPTION]
    if files:
        more = f" and {len(files) - _FILES} more" if len(files) > _FILES else ""
        said.append(f"Changed sources: {', '.join(f'`{_code(path)}`' for path in files[:_FILES])}{more}.")
    lines = [line for change in (plan.summary.changes if plan.summary else ()) for line in _resource(change)]
    if plan.summary is not None and not plan.summary.changes:
        lines += [f"! output {name}" for name in plan.summary.outputs]
    if not said and not lines:
        return ""
    opened = " open" if stack.refused or not stack.planned else ""
    block = [_fenced(lines)] if lines else []
    body = "\n\n".join(("\n".join(f"- {line}" for line in said), *block) if said else block)
    return f"<details{opened}><summary>{html.escape(plan.stack)}</summary>\n\n{body}\n\n</details>"


def _resource(change: ResourceChange) -> Iterator[str]:
    extra = " (import)" if change.importing else f" (was {change.moved_from})" if change.moved_from else ""
    extra += " (tainted)" if change.tainted else ""
    yield f"{_SIGNS.get(change.action, '#')} {_line(change.address)}{extra}"
    for attribute in attribute_changes(change):
        yield from _attribute(attribute)


def _attribute(attribute: AttributeChange) -> Iterator[str]:
    forces = "  (forces replacement)" if attribute.replaces else ""
    before, after = attribute.before, attribute.after
    if isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        yield f"    {_line(attribute.path)}:{forces}"
        yield from _document(before, after)
        return
    old = _MASK if attribute.sensitive else _value(before)
    new = "(known after apply)" if attribute.unknown else _MASK if attribute.sensitive else _value(after)
    yield f"    {_line(attribute.path)}: {old} → {new}{forces}"


def _document(before: str, after: str) -> Iterator[str]:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1))[2:]
    for line in lines[:_LINES]:
        yield f"{line[0]}       {_line(line[1:], _VALUE * 2)}" if line[:1] in ("+", "-") else f"        {_line(line, _VALUE * 2)}"
    if len(lines) > _LINES:
        yield f"        … {len(lines) - _LINES} more lines"


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else str(value) or '""'
    return _line(text)


def _line(text: str, most: int = _VALUE) -> str:
    flat = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return flat if len(flat) <= most else flat[: most - 1] + "…"


def _fenced(lines: list[str]) -> str:
    """A code block whose fence is longer than any in it."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}diff\n{text}\n{fence}"


def _footer(review: Review, link: str) -> str:
    number = link.rpartition("/")[2]
    job = f"`REVIEW_JOB={number}` for job `up`, or " if number.isdigit() else ""
    kept = f" The plans are kept: {job}`labctl up --plan DIR` with the artifact applies exactly this." if review.artifact else ""
    others = review.change.others
    files = f" {len(others)} changed file{'s' if len(others) > 1 else ''} made no difference to any stack." if others else ""
    return f"<sub>{review.head[:12]} against {review.base[:12]}.{files}{kept}</sub>"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is; nobody is mentioned."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")
