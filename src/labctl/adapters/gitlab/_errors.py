"""What can go wrong with GitLab, said once: what it means, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests
from gitlab import exceptions

from labctl.model.errors import AdapterError, LabError, UserError


class Refused(UserError):
    """The token is unknown, revoked or expired."""


class Forbidden(UserError):
    """The token lacks the right."""


class NotThere(AdapterError):
    """There is no such thing."""


class Invalid(UserError):
    """GitLab does not take a value: a name that is taken or reserved, or has letters that it may not have."""


class Unready(AdapterError):
    """GitLab cannot be reached, or cannot serve yet."""


LOOK = "In guest gitlab, `gitlab-ctl status` shows its services, `journalctl -u lab-gitlab-configure` its configuration."


@contextlib.contextmanager
def explained(url: str, what: str) -> Iterator[None]:
    """Turns what python-gitlab and requests raise into LabErrors that name the URL and what was tried.

    The messages hold what GitLab said, which never repeats a token, and never the request.
    """
    try:
        yield
    except exceptions.RedirectError as error:
        raise UserError(
            f"cannot {what}: GitLab sends the request elsewhere",
            where=url,
            hint="platform.gitlab.external_url must be the address that GitLab itself has, scheme included.",
        ) from error
    except exceptions.GitlabError as error:
        raise _from_answer(url, what, error) from error
    except requests.RequestException as error:
        raise _from_transport(url, error) from error
    except OSError as error:
        # requests checks for the authority's file itself and raises a bare OSError.
        raise AdapterError(f"cannot {what}: {error}", where=url) from error


def _from_answer(url: str, what: str, error: exceptions.GitlabError) -> LabError:
    status = error.response_code
    said = _said(error)
    if status == 401:
        return Refused(
            f"cannot {what}: GitLab refuses labctl's token{f' ({said})' if said else ''}",
            where=url,
            hint="`labctl up` makes it anew in GitLab. In guest gitlab, `systemctl start lab-gitlab-configure` does that too.",
        )
    if status == 403:
        return Forbidden(
            f"cannot {what}: the token lacks the right{f' ({said})' if said else ''}",
            where=url,
            hint="It must be an administrator's, with scope api; admin mode must be off (Admin > Settings > General).",
        )
    if status == 404:
        return NotThere(f"cannot {what}: it is not there", where=url)
    if status == 400:
        return Invalid(f"cannot {what}: GitLab refuses ({said or 'and says nothing'})", where=url)
    if status is not None and status >= 500:
        return Unready(f"GitLab is not ready ({status})", where=url, hint=LOOK)
    if status in (200, 201, None):
        return not_json(url)
    return AdapterError(f"cannot {what}: GitLab answers {status}: {said or 'nothing'}", where=url, hint=LOOK)


def not_json(url: str) -> LabError:
    """What answered is a web page, or something else that the API never says."""
    return UserError(
        "it does not answer as GitLab's API does",
        where=url,
        hint="Is something else listening there, as a proxy's login? platform.gitlab.external_url must be GitLab's own address.",
    )


def _said(error: exceptions.GitlabError) -> str:
    message = error.error_message
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message or "")
    return "" if "<html" in text.lower() else " ".join(text.split())[:200]


def _from_transport(url: str, error: requests.RequestException) -> LabError:
    reason = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        return UserError(
            "its certificate is not trusted, or for another name",
            where=url,
            hint="It must be signed by an authority that this machine trusts, for the name in external_url.",
        )
    if isinstance(error, requests.exceptions.Timeout):
        return Unready("no answer in time", where=url, hint="Is guest gitlab overloaded, or a firewall in between?")
    if "Name or service not known" in reason or "Failed to resolve" in reason or "getaddrinfo" in reason:
        return UserError("this name is not known", where=url, hint="Add it to your DNS or /etc/hosts.")
    if "Connection refused" in reason:
        return Unready("connection refused", where=url, hint=LOOK)
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return not_json(url)
    return Unready("the connection failed", where=url, hint="Is guest gitlab up and reachable from here?")
