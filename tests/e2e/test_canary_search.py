"""The search for secrets can fail: what is planted is found, in each form."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from urllib.parse import quote

import pytest

from tests.e2e.canary import Canary, CommandLines, Search, Watch

VALUES = [
    pytest.param('f8Jq-2/+ü"x\\y'.encode(), id="text"),
    pytest.param(bytes(range(200, 232)), id="bytes"),
    pytest.param(b"N" + secrets.token_hex(16).encode(), id="letters"),
]


@pytest.mark.parametrize("value", VALUES)
def test_every_form_of_a_value_is_found(value: bytes) -> None:
    search = Search([Canary("planted", (value,))])
    wrapped = base64.encodebytes(b"head" + value + b"tail" * 20)
    written = [value, value.hex().encode(), value.hex().upper().encode(), quote(value, safe="").encode(), wrapped]
    written += [
        encode(b"ab"[:shift] + value + b"-") for shift in range(3) for encode in (base64.b64encode, base64.urlsafe_b64encode)
    ]
    if value[:1].isascii():
        written.append(json.dumps({"value": value.decode()}).encode())
    for number, text in enumerate(written):
        assert search.look("here", b"before" + text + b"after"), number
    assert not search.look("here", b"before" + value[:-1] + b"|after")


LOOKS = [
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "AGE-SECRET-KEY-1" + "Q" * 58,
    '"client_token": "s.' + "aB3" * 8 + '"',
    "hvs." + "x1Y" * 8,
]


@pytest.mark.parametrize("text", LOOKS)
def test_what_looks_like_a_secret_is_found(text: str) -> None:
    assert {finding.form for finding in Search([]).look("here", f"x {text} y".encode())} == {"shape"}


def test_a_value_planted_in_a_command_line_is_seen_though_the_process_is_short() -> None:
    planted = Canary.of_text("planted", secrets.token_urlsafe(24))
    lines = CommandLines()
    with Watch(lines.look):
        subprocess.run(["/bin/sleep", "0.05", "0", "0.0"], check=True)
        subprocess.run(["/bin/sh", "-c", "sleep 0.05; true", planted.values[0].decode()], check=True)
    assert {finding.place for finding in Search([planted]).look_at_all(lines.places())} == {"the command line of sh"}
