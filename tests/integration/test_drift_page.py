"""The page of a drift report in a browser: Debian's chromium, light and dark, wide and as narrow as a phone."""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from collections import Counter
from functools import cache
from html import escape
from pathlib import Path

import pytest

from labctl.model.drift.formats import as_html
from labctl.model.drift.formats._htmlstyle import STYLE
from labctl.model.drift.formats.htmlmap import Spot
from tests.needs import needed
from tests.unit.drift.reports import full_report, nights

pytestmark = pytest.mark.integration

SCHEMES = {"light": 1, "dark": 0}
LONG = Spot("a-guest-with-a-name-of-the-length-that-dns-allows-for-a-single-label-63", "platform")
Colour = tuple[int, int, int]


def page() -> str:
    report = full_report()
    return as_html(report, nights(report), [Spot("vault", "foundation", stack="foundation"), LONG])


def browse(folder: Path, text: str, width: int, scheme: str, *arguments: str) -> str:
    (folder / "page.html").write_text(text, encoding="utf-8")
    argv = [
        needed("chromium", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--window-size={width},3600", *arguments, (folder / "page.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [400, 1200])
def test_it_is_painted_in_the_colours_of_its_verdicts(width: int, scheme: str, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    browse(tmp_path, page(), width, scheme, f"--screenshot={picture}")
    size, colours = painted(picture.read_bytes())
    assert size[0] == width
    (background, _), (sheet, _) = colours.most_common(2)
    assert (background, sheet) == (declared("page", scheme), declared("sheet", scheme)) or (sheet, background) == (
        declared("page", scheme),
        declared("sheet", scheme),
    )
    for verdict in ("clean", "drifted", "pending", "locked", "error"):
        assert colours[declared(verdict, scheme)] > 100, verdict


@pytest.mark.parametrize("width", [400, 1200])
def test_nothing_reaches_beyond_the_window(width: int, tmp_path: Path) -> None:
    # In a frame: chromium's own window has at least 500 pixels when it writes no picture. The page lets no script of its own run.
    style = f"width: {width}px; height: 900px; border: 0"
    frame = f"""<iframe style="{style}" onload="measure(this)" srcdoc="{escape(page())}"></iframe>"""
    script = """<script>
    function measure(frame) {
      const page = frame.contentDocument, wide = [...page.querySelectorAll('main, main *')].filter(e =>
        e.getBoundingClientRect().right > frame.contentWindow.innerWidth + 0.5 && !e.closest('.history, thead'));
      const found = [frame.contentWindow.innerWidth, page.documentElement.scrollWidth, wide.map(e => e.className || e.tagName)];
      document.documentElement.setAttribute('data-measured', found.join());
    }
    </script>"""
    text = f"<!DOCTYPE html><title>frame</title>{script}{frame}"
    found = re.search(r'data-measured="(\d+),(\d+),([^"]*)"', browse(tmp_path, text, 1300, "light", "--dump-dom"))
    assert found is not None
    assert found.groups() == (str(width), str(width), "")


def test_no_script_runs_in_the_page(tmp_path: Path) -> None:
    text = page().replace("</body>", "<script>document.documentElement.setAttribute('data-ran', 1)</script></body>")
    assert "data-ran" not in re.sub(r"(?s)<script>.*?</script>", "", browse(tmp_path, text, 400, "light", "--dump-dom"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    """Contrast of at least 4.5 : 1, WCAG 2.2 criterion 1.4.3."""
    for name in ("ink", "soft", "clean", "drifted", "pending", "absent", "locked", "error", "accepted"):
        tone, sheet = declared(name, scheme), declared("sheet", scheme)
        wash = float(declared_text("wash", scheme).rstrip("%")) / 100
        washed = tuple(round(wash * t + (1 - wash) * s) for t, s in zip(tone, sheet, strict=True))
        behind = [sheet, declared("page", scheme), *([washed] if name not in ("ink", "soft") else [])]
        for one in behind:
            low, high = sorted((luminance(tone), luminance(one)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, one)


def luminance(colour: tuple[int, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def declared_text(name: str, scheme: str) -> str:
    found = re.findall(rf"--{name}: ([^;]+);", STYLE)
    assert len(found) == 2, name
    return str(found[list(SCHEMES).index(scheme)])


def declared(name: str, scheme: str) -> Colour:
    red, green, blue = bytes.fromhex(declared_text(name, scheme).lstrip("#"))
    return red, green, blue


@cache
def painted(png: bytes) -> tuple[tuple[int, int], Counter[Colour]]:
    """Size and colours of a PNG with 8 bits a channel and no interlacing, as chromium writes it (RFC 2083)."""
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", png[16:29])
    assert (depth, interlaced) == (8, 0)
    channels, at, packed = {2: 3, 6: 4}[kind], 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(packed), width * channels
    above, colours = bytearray(stride), Counter[Colour]()
    for row in range(height):
        start = row * (stride + 1)
        line = unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, channels)
        above = line
        colours.update(zip(line[0::channels], line[1::channels], line[2::channels], strict=True))
    return (width, height), colours


def unfiltered(kind: int, line: bytearray, above: bytearray, channels: int) -> bytearray:
    for i in range(len(line)):
        left = line[i - channels] if i >= channels else 0
        corner = above[i - channels] if i >= channels else 0
        if kind == 4:
            guess = left + above[i] - corner
            nearest = min((abs(guess - left), 0, left), (abs(guess - above[i]), 1, above[i]), (abs(guess - corner), 2, corner))[2]
        else:
            nearest = (0, left, above[i], (left + above[i]) // 2)[kind]
        line[i] = (line[i] + nearest) & 255
    return line
