"""The formats of a drift report."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings

from labctl.model.drift import AreaDrift, DriftReport, Finding, Kind, Severity, StackDrift, Verdict
from labctl.model.drift.formats import as_document, as_html, as_json, as_junit, as_markdown, as_prometheus
from labctl.model.drift.formats.htmlmap import Spot
from labctl.model.drift.formats.words import headline, remedy
from labctl.model.drift.summary import RunSummary
from tests.unit.drift.reports import (
    AT,
    DELETED,
    FOREIGN,
    MEMORY,
    POLICY,
    UNAPPLIED,
    clean_report,
    entry,
    full_report,
    nasty_report,
    nights,
    reports,
)

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/drift.schema.json").read_text())


class TestGolden:
    @pytest.mark.parametrize("name", ["full", "clean"])
    def test_each_format(self, name: str, golden: Callable[[str, str], None]) -> None:
        report = full_report() if name == "full" else clean_report()
        golden(f"drift/{name}.json", as_json(report))
        golden(f"drift/{name}.md", as_markdown(report))
        golden(f"drift/{name}.xml", as_junit(report))
        golden(f"drift/{name}.prom", as_prometheus(report, AT - timedelta(days=1)))
        golden(f"drift/{name}.html", as_html(report, nights(report) if name == "full" else ()))


class TestWords:
    @pytest.mark.parametrize(
        ("report", "sentence"),
        [
            (clean_report(), "All is as described (2 stacks and 2 areas looked at)."),
            (
                replace(
                    clean_report(), entries=(entry(UNAPPLIED, 2),), stacks=(StackDrift("kafka", "services", Verdict.PENDING),)
                ),
                "1 change in the code is not applied yet.",
            ),
            (
                replace(clean_report(), areas=(AreaDrift("vault", problems=("sealed",)),)),
                "Area vault could not be looked at, so this is not all.",
            ),
            (replace(clean_report(), entries=(entry(MEMORY, 2),)), "1 thing is not as described, none of them new."),
        ],
    )
    def test_the_result_in_a_sentence(self, report: DriftReport, sentence: str) -> None:
        assert headline(report) == sentence

    @pytest.mark.parametrize(
        ("finding", "expected"),
        [
            (MEMORY, ("put it back", "labctl drift fix proxmox_virtual_environment_vm.gitlab")),
            (DELETED, ("make it again", "labctl up --layer platform")),
            (UNAPPLIED, ("apply it", "labctl up --layer services")),
            (FOREIGN, ("once lab.yaml has its VMID, take it over", "labctl import 105")),
            (POLICY, ("put it back", "labctl up --layer platform")),
            (replace(MEMORY, id='module.x["a b"]'), ("put it back", "labctl drift fix 'module.x[\"a b\"]'")),
            (Finding("proxmox", Kind.UNMANAGED, "pool/x", "pool x"), ("", "")),
        ],
    )
    def test_what_to_do(self, finding: Finding, expected: tuple[str, str]) -> None:
        assert remedy(entry(finding)) == expected


class TestJson:
    @settings(max_examples=40)
    @given(reports())
    @example(nasty_report())
    def test_every_document_is_as_the_schema_says(self, report: DriftReport) -> None:
        document = json.loads(as_json(report))
        jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
        found = [e for s in document["stacks"] for e in s["resources"]] + [e for a in document["areas"] for e in a["findings"]]
        assert len(found) == len(report.entries)
        assert RunSummary.from_document(document) == RunSummary.of(report)

    def test_the_schema_is_one_and_refuses(self) -> None:
        jsonschema.Draft202012Validator.check_schema(SCHEMA)
        document = as_document(full_report())
        document["stacks"][0]["verdict"] = "fine"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)

    def test_unmanaged_and_missing_are_listed_apart(self) -> None:
        inventory = as_document(full_report())["inventory"]
        assert [one["address"] for one in inventory["unmanaged"]] == ["qemu/105"]
        assert [one["guest"] for one in inventory["missing"]] == ["runner"]

    @pytest.mark.parametrize(
        "document", [{}, {"counts": [], "at": "", "result": ""}, {"at": "never", "counts": {}, "result": "clean"}]
    )
    def test_what_is_no_report_is_refused(self, document: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"drift report|isoformat"):
            RunSummary.from_document(document)


class TestMarkdown:
    @settings(max_examples=40)
    @given(reports())
    @example(nasty_report())
    def test_no_text_breaks_out(self, report: DriftReport) -> None:
        text = as_markdown(report)
        rows = [line for line in text.split("\n") if line.startswith("|")]
        assert len(rows) == 2 + len(report.stacks) + len(report.areas)
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} <= {7}
        assert text.count("<details>") == text.count("</details>") == text.count("<summary>")
        lines = [line for line in text.split("\n") if not re.fullmatch(r"</?details>|<summary>[^<]*</summary>", line)]
        outside = re.sub(r"(?s)(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", re.sub(r"\\.", "", "\n".join(lines)))
        assert "<" not in outside
        assert "@" not in outside

    @pytest.mark.parametrize("limit", [500, 900, 1500, 2500, 4000])
    def test_a_long_one_is_cut_and_says_so(self, limit: int) -> None:
        report = full_report()
        many = [replace(MEMORY, id=f"vm.x{n}") for n in range(60)]
        report = replace(report, entries=report.entries + tuple(entry(one, 1 + n % 2) for n, one in enumerate(many)))
        text = as_markdown(report, limit, "in artifact drift.html")
        assert len(text) <= limit
        found = re.search(r"\*Cut here: (\d+) entries are left out\. The whole report is in artifact drift\.html\.\*", text)
        assert found is not None
        shown = sum(text.count(f": vm.x{n} ") > 0 for n in range(60))
        assert int(found[1]) >= 60 - shown

    def test_one_that_fits_is_whole(self) -> None:
        text = as_markdown(full_report())
        assert as_markdown(full_report(), len(text)) == text
        assert "Cut here" in as_markdown(full_report(), len(text) - 1)

    def test_what_is_new_comes_first(self) -> None:
        text = as_markdown(full_report())
        assert text.index("New since the last check") < text.index("## All") < text.index("<details>")


class TestJUnit:
    @settings(max_examples=40)
    @given(reports())
    @example(nasty_report())
    def test_it_fails_exactly_where_the_check_is_not_clean(self, report: DriftReport) -> None:
        root = ET.fromstring(as_junit(report))
        cases = list(root.iter("testcase"))
        assert len(cases) == len(report.verdicts)
        failed, broken = list(root.iter("failure")), list(root.iter("error"))
        assert (report.result == "clean") == (not failed and not broken)
        assert (report.result == "error") == bool(broken)
        assert Counter(one.get("type") for one in (*failed, *broken)) == Counter(
            str(v) for v in report.verdicts if v is not Verdict.CLEAN
        )
        assert int(root.get("tests", "")) == len(cases)

    def test_a_layer_is_a_suite_and_so_is_an_area(self) -> None:
        root = ET.fromstring(as_junit(full_report()))
        names = [suite.get("name") for suite in root]
        assert names == ["foundation", "platform", "services", "apps", "proxmox", "vault", "store", "guests"]


class TestPrometheus:
    @settings(max_examples=40)
    @given(reports())
    @example(nasty_report())
    def test_it_is_written_by_the_rules(self, report: DriftReport) -> None:
        families = exposed(as_prometheus(report, AT))
        drifted = (
            sum(v for labels, v in families["labctl_drift_findings"] if labels["verdict"] == "drifted") if report.verdicts else 0
        )
        assert drifted == sum(e.counts for e in report.entries)
        assert sum(v for _, v in families["labctl_drift_result"]) == 1
        assert families["labctl_drift_exit_code"] == [({"lab": report.lab.encode(errors="replace").decode()}, report.exit_code)]

    def test_zeros_are_there_too(self) -> None:
        families = exposed(as_prometheus(clean_report()))
        assert ({"lab": "datalab", "layer": "platform", "verdict": "drifted"}, 0) in families["labctl_drift_stacks"]
        severities = [labels["severity"] for labels, _ in families["labctl_drift_findings"] if labels["area"] == "vault"]
        assert set(severities) == {"high", "medium", "low"}

    def test_the_last_success(self) -> None:
        name, yesterday = "labctl_drift_last_success_timestamp_seconds", AT - timedelta(days=1)
        assert exposed(as_prometheus(clean_report(), yesterday))[name][0][1] == AT.timestamp()
        assert exposed(as_prometheus(full_report(), yesterday))[name][0][1] == yesterday.timestamp()
        assert name not in exposed(as_prometheus(full_report()))


def exposed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The text read by the grammar of the exposition format 0.0.4; asserts that it keeps to it."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    helped, typed = "", ""
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if matched := re.fullmatch(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) \S.*", line):
            helped = matched[1]
            assert helped not in found
            found[helped] = []
        elif matched := re.fullmatch(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) gauge", line):
            typed = matched[1]
            assert typed == helped
        else:
            sample = re.fullmatch(
                r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[^\"]|\"(?:[^\"\\]|\\.)*\")*)\} (\d+(?:\.\d+)?(?:e[+-]?\d+)?)", line
            )
            assert sample is not None, line
            assert sample[1] == typed
            labels, at = {}, 0
            while at < len(sample[2]):
                label = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(?:,|$)').match(sample[2], at)
                assert label is not None, line
                labels[label[1]] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[2])
                at = label.end()
            assert labels not in [labels_before for labels_before, _ in found[typed]], line
            found[typed].append((labels, float(sample[3])))
    assert all(found.values())
    return found


class Page(HTMLParser):
    """Reads a page, asserts that what opens closes, and keeps what a test asks for."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


class TestHtml:
    @settings(max_examples=40)
    @given(reports())
    @example(nasty_report())
    def test_no_text_breaks_out(self, report: DriftReport) -> None:
        page = Page(as_html(report, spots=[Spot(report.lab, report.lab, "service")]))
        allowed = {
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "main",
            "header",
            "div",
            "span",
            "p",
            "time",
            "dl",
            "dt",
            "dd",
            "section",
        }
        allowed |= {
            "h1",
            "h2",
            "h3",
            "ul",
            "li",
            "b",
            "em",
            "i",
            "small",
            "article",
            "code",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        }
        assert set(page.tags) <= allowed | {"details", "summary", "footer"}
        assert page.tags["article"] == sum(not e.accepted for e in report.entries)
        known = {"lang", "charset", "name", "content", "http-equiv", "class", "id", "datetime", "aria-hidden", "scope", "style"}
        assert {name for name, _ in page.attributes} <= known | {"data-name"}

    def test_it_needs_no_network_and_no_script(self) -> None:
        text = as_html(full_report(), nights(full_report()))
        assert not re.search(r"<script|<link|<img|\bsrc=|\bhref=|url\(|@import|https?://", text)
        assert "default-src 'none'" in text

    def test_every_verdict_is_a_word_too(self) -> None:
        words = Page(as_html(full_report())).words
        assert {"drifted", "pending", "locked", "error", "clean", "not deployed"} <= {word.strip() for word in words}

    def test_what_is_new_comes_before_what_was_known(self) -> None:
        text = as_html(full_report())
        assert (
            text.index(f"finding-{DELETED.fingerprint}")
            < text.index("Known before")
            < text.index(f"finding-{MEMORY.fingerprint}")
        )

    def test_tables_have_headers(self) -> None:
        page = Page(as_html(full_report(), nights(full_report())))
        assert page.tags["thead"] == page.tags["table"]
        assert ("lang", "en") in page.attributes

    def test_the_map_has_guests_without_findings(self) -> None:
        text = as_html(full_report(), spots=[Spot("quiet", "platform", stack="platform")])
        assert re.search(r'class="box clean"><b>quiet</b>', text)
        assert re.search(r'class="box drifted"><b>runner</b>', text)

    def test_the_history_ends_with_this_check(self) -> None:
        report = full_report()
        text = as_html(report, [*nights(report, 30), RunSummary.of(report)])
        assert "The last 14 checks" in text
        assert text.count('<th scope="row">01-') == 14
        assert text.count('<th scope="row">01-31 02:30') == 1


def test_severities_are_sorted_worst_first() -> None:
    report = replace(
        full_report(), entries=(entry(replace(FOREIGN, id="qemu/1")), entry(replace(POLICY, severity=Severity.HIGH)))
    )
    text = as_markdown(report)
    assert text.index("policy/gitlab") < text.index("qemu/1")
