"""Reports for the tests of their formats: one with something of everything, and any that hypothesis thinks of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import strategies as st

from labctl.model.drift import AreaDrift, Change, DriftReport, Entry, Finding, Kind, Severity, StackDrift, Verdict
from labctl.model.drift.acceptance import Acceptance
from labctl.model.drift.finding import MASK
from labctl.model.drift.memory import Remembered
from labctl.model.drift.summary import RunSummary

AT = datetime(2026, 1, 31, 2, 30, tzinfo=UTC)
OPS = Acceptance(id="*tags", reason="set by the backup | <weekly>", owner="ops", until=date(2026, 3, 1))
OVER = Acceptance(id="*.web", reason="until the new disk is there", owner="ops", until=date(2026, 1, 30))
STALE = Acceptance(id="qemu/999", reason="an experiment", until=date(2026, 12, 31))

VM = "proxmox_virtual_environment_vm"


def terraform(stack: str, layer: str, kind: Kind, address: str, text: str, severity: Severity, *changes: Change) -> Finding:
    return Finding("terraform", kind, address, text, severity, stack, layer, changes=changes)


MEMORY = replace(
    terraform(
        "platform",
        "platform",
        Kind.CHANGED,
        f"{VM}.gitlab",
        "memory of guest gitlab was set to 4096 MiB",
        Severity.MEDIUM,
        Change("memory.dedicated", 8192, 4096),
        Change("initialization.user_account.password", MASK, MASK),
    ),
    guest="gitlab",
    node="pve1",
)
DELETED = replace(
    terraform("platform", "platform", Kind.MISSING, f'{VM}.runner["one|two"]', "guest runner was deleted outside", Severity.HIGH),
    guest="runner",
    node="pve2",
)
TAGS = terraform(
    "foundation", "foundation", Kind.CHANGED, f"{VM}.vault.tags", "tags of <vault>", Severity.LOW, Change("tags", ["lab"], [])
)
DISK = replace(
    terraform("foundation", "foundation", Kind.CHANGED, f"{VM}.web", "disk grew", Severity.HIGH, Change("disk[0].size", 20, 40)),
    guest="web",
)
UNAPPLIED = terraform(
    "kafka", "services", Kind.PENDING, "labctl_compose_project.kafka", "image is newer in the code", Severity.LOW
)
FOREIGN = Finding("proxmox", Kind.UNMANAGED, "qemu/105", "guest 105 (test-<b>vm</b>) is not declared", Severity.LOW, node="pve1")
POLICY = Finding("vault", Kind.CHANGED, "policy/gitlab", "policy gitlab lets *more* be read", Severity.HIGH, layer="platform")


def entry(finding: Finding, seen: int = 1, accepted: Acceptance | None = None, expired: Acceptance | None = None) -> Entry:
    return Entry(finding, AT - timedelta(days=seen - 1), seen, seen == 1, accepted, expired)


def full_report() -> DriftReport:
    """Drift, pending, locked, failed, accepted, expired, gone, unused, a warning."""
    return DriftReport(
        lab="datalab",
        target="proxmox",
        at=AT,
        seconds=42.25,
        stacks=(
            StackDrift("foundation", "foundation", Verdict.DRIFTED, (TAGS, DISK), seconds=11.5),
            StackDrift("platform", "platform", Verdict.DRIFTED, (MEMORY, DELETED), seconds=21.25),
            StackDrift("kafka", "services", Verdict.PENDING, (UNAPPLIED,), seconds=3.0),
            StackDrift("postgres", "services", Verdict.CLEAN, seconds=3.5),
            StackDrift("mlflow", "apps", Verdict.NOT_DEPLOYED, hint="`labctl up mlflow` makes it."),
            StackDrift(
                "web",
                "apps",
                Verdict.LOCKED,
                problem="run 20260131T022000Z-ab12 holds the state",
                hint="Check again when it is done.",
            ),
        ),
        areas=(
            AreaDrift("proxmox", (FOREIGN,), notes=("3 guests outside of pool lab",), looked=57, seconds=1.5),
            AreaDrift("vault", (POLICY,), looked=31, seconds=0.75),
            AreaDrift(
                "store",
                problems=("bucket mlflow: the store does not answer. Is guest store up?",),
                looked=3,
                seconds=10.0,
            ),
            AreaDrift("guests", looked=12, seconds=2.0),
        ),
        entries=(
            entry(TAGS, 9, accepted=OPS),
            entry(DISK, 4, expired=OVER),
            entry(MEMORY, 3),
            entry(DELETED),
            entry(UNAPPLIED, 2),
            entry(FOREIGN, 6),
            entry(POLICY),
        ),
        gone=(
            Remembered("0123456789abcdef", "proxmox", "qemu/104", "guest 104 (old) is not declared", AT - timedelta(days=5), 5),
        ),
        unused=(STALE,),
        warnings=("the webhook did not answer within 10 s",),
    )


def clean_report() -> DriftReport:
    stacks = tuple(StackDrift(name, name, Verdict.CLEAN, seconds=2.0) for name in ("foundation", "platform"))
    return DriftReport("datalab", "sandbox", AT, 12.0, stacks, (AreaDrift("proxmox", looked=5), AreaDrift("vault", looked=9)))


def nights(report: DriftReport, count: int = 9) -> list[RunSummary]:
    """What the nights before came to, the oldest first."""
    this = RunSummary.of(report)
    found = []
    for back in range(count, 0, -1):
        drifted = (back * 5) % 7
        result = "error" if back == 4 else "drift" if drifted else "pending" if back % 3 else "clean"
        counts = dict(this.counts) | {"drifted": drifted, "pending": back % 3, "new": drifted // 2}
        found.append(RunSummary(AT - timedelta(days=back), result, counts))
    return found


NASTY = 'a</b><script src="x">\\"\'&lt; |`<!-- -->\n@all\a\x1b[2J\ud800'
"""What breaks out of each of the formats where it is not escaped."""


def nasty_report() -> DriftReport:
    """The worst text in every place."""
    finding = Finding(
        "terraform", Kind.CHANGED, NASTY, NASTY, Severity.HIGH, NASTY, NASTY, NASTY, NASTY, (Change(NASTY, NASTY, [NASTY]),)
    )
    world = replace(finding, area="vault", kind=Kind.UNMANAGED, stack="", layer="")
    acceptance = Acceptance(id=NASTY.replace("\ud800", ""), reason="a</b> | <i>", owner="@all `", until=date(2026, 3, 1))
    return DriftReport(
        NASTY,
        "sandbox",
        AT,
        2.0,
        (
            StackDrift(NASTY, NASTY, Verdict.ERROR, (finding,), NASTY, NASTY),
            StackDrift(f"{NASTY}2", NASTY, Verdict.NOT_DEPLOYED, hint=NASTY),
        ),
        (AreaDrift("vault", (world,), (NASTY,), (NASTY,)),),
        (entry(finding, 3, expired=acceptance), entry(world), entry(replace(world, id=f"{NASTY}2"), 2, accepted=acceptance)),
        (Remembered("0123456789abcdef", NASTY, NASTY, NASTY, AT, 2),),
        (acceptance,),
        (NASTY,),
    )


ANY_TEXT = st.text(st.sampled_from("|\\<>&`\n\r\a \"'{}@#ab") | st.characters(), max_size=12)


WRITTEN = ANY_TEXT.map(lambda text: text.encode(errors="replace").decode())
"""As a file can hold it."""


@st.composite
def reports(draw: st.DrawFn) -> DriftReport:
    """Any report, with the worst texts in all of its places; stacks and areas have names that differ."""
    text = draw(st.shared(st.just(ANY_TEXT), key="text"))
    value = st.none() | st.integers() | text | st.lists(text, max_size=2) | st.dictionaries(text, text, max_size=2)
    changes = st.builds(Change, text, value, value)

    def findings(area: str, stack: str, layer: str) -> st.SearchStrategy[tuple[Finding, ...]]:
        one = st.builds(
            Finding,
            area=st.just(area),
            kind=st.sampled_from(Kind),
            id=text,
            text=text,
            severity=st.sampled_from(Severity),
            stack=st.just(stack),
            layer=st.just(layer),
            guest=text,
            node=text,
            changes=st.lists(changes, max_size=2).map(tuple),
        )
        return st.lists(one, max_size=3, unique_by=lambda f: f.fingerprint).map(tuple)

    names = draw(st.lists(text, max_size=3, unique=True))
    layers = draw(st.lists(text, min_size=3, max_size=3))
    stacks = tuple(
        StackDrift(
            name, layer, draw(st.sampled_from(Verdict)), draw(findings("terraform", name, layer)), draw(text), draw(text), 1.5
        )
        for name, layer in zip(names, layers, strict=False)
    )
    areas = tuple(
        AreaDrift(
            name, draw(findings(name, "", "")), tuple(draw(st.lists(text, max_size=1))), tuple(draw(st.lists(text, max_size=1)))
        )
        for name in draw(st.lists(st.sampled_from(["proxmox", "vault", "store"]), unique=True))
    )
    entries = []
    for finding in [f for place in (*stacks, *areas) for f in place.findings]:
        seen = draw(st.integers(1, 3))
        words, owner = draw(WRITTEN.filter(bool)), draw(WRITTEN)
        acceptance = Acceptance(id=words[:9], reason=words, owner=owner, until=date(2026, 3, 1))
        entries.append(
            entry(finding, seen, accepted=acceptance if draw(st.booleans()) else None, expired=acceptance if seen == 3 else None)
        )
    return DriftReport(
        draw(text),
        "sandbox",
        AT,
        2.0,
        stacks,
        areas,
        tuple(entries),
        unused=(OPS,),
        warnings=tuple(draw(st.lists(text, max_size=1))),
    )
