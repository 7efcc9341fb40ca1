"""Why a guest could not log in, from what bao 2.7.2 really said."""

from __future__ import annotations

import pytest

from labctl.model.guestlogin import Failure, judge_login

LOOKUP = """\
2026-11-25T03:03:33.992Z [INFO]  agent.auth.handler: starting auth handler
2026-11-25T03:03:33.992Z [INFO]  agent.auth.handler: authenticating
2026-11-25T03:03:33.992Z [ERROR] agent.auth.handler: error getting path or data from method:
  error=
  | error looking up wrapped secret ID: Error making API request.
  |
  | URL: GET https://127.92.0.102:8200/v1/sys/wrapping/lookup
  | Code: {code}. Errors:
  |
  | * {said}
   backoff=1s
2026-11-25T03:03:33.993Z [ERROR] agent: runtime error encountered:
"""
USED = LOOKUP.format(code=400, said="wrapping token is not valid or does not exist")
LINE = "2026-11-25T03:03:36.002Z [INFO]  agent.auth.handler: starting auth handler\n2026-11-25T03:03:36.002Z [ERROR] agent: {}\n"

CASES = {
    "used": (USED, 2.0, Failure.TAMPERED),
    "expired": (USED, 300.0, Failure.EXPIRED),
    "wrapped again": (
        LINE.format(
            "SECURITY: unable to validate wrapping token creation path: expected=auth/approle/role/guest-gitlab/secret-id "
            "found=sys/wrapping/wrap"
        ),
        2.0,
        Failure.TAMPERED,
    ),
    "sealed": (LOOKUP.format(code=503, said="Vault is sealed"), 2.0, Failure.SEALED),
    "down": (LINE.format('error="Get ...: dial tcp 127.92.0.9:8200: connect: connection refused"'), 2.0, Failure.UNREACHABLE),
    "another authority": (
        LINE.format("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        2.0,
        Failure.UNTRUSTED,
    ),
    "from elsewhere": (
        LINE.format('* source address "127.0.0.1" unauthorized by CIDR restrictions on the role'),
        2.0,
        Failure.REFUSED,
    ),
    "nothing arrived": (LINE.format('error="secret ID file empty and no cached secret ID known" exitCode=1'), 2.0, Failure.EMPTY),
    "silence": ("", 2.0, Failure.UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_why_it_failed(name: str) -> None:
    log, age_s, expected = CASES[name]
    assert judge_login(log, age_s=age_s, ttl_s=300).failure is expected


def test_an_earlier_login_does_not_count() -> None:
    assert judge_login(USED + LOOKUP.format(code=503, said="Vault is sealed"), age_s=1, ttl_s=300).failure is Failure.SEALED


def test_only_what_passes_is_tried_again() -> None:
    assert {failure for failure in Failure if failure.passing} == {
        Failure.EXPIRED,
        Failure.SEALED,
        Failure.UNREACHABLE,
        Failure.EMPTY,
    }


def test_the_lines_are_those_that_say_something() -> None:
    lines = judge_login(USED, age_s=1, ttl_s=300).lines
    assert "* wrapping token is not valid or does not exist" in lines
    assert not [line for line in lines if "INFO" in line]
