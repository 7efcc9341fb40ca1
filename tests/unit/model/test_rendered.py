"""What guests render from the Vault: all that names them as a reader, and nothing else."""

from __future__ import annotations

import pytest

from labctl.model import rendered
from labctl.model.catalogue import catalogue
from labctl.model.errors import LabError
from labctl.model.lab import Lab
from labctl.model.rendered import RenderedFile, rendered_files, templates


def lab(**foundation: object) -> Lab:
    return Lab.model_validate({"name": "datalab", "target": {"sandbox": {}}, "foundation": foundation})


@pytest.mark.parametrize("name", ["vault", "store", "gitlab", "docker"])
def test_a_guest_with_an_identity_renders_every_secret_that_names_it_and_no_other(name: str) -> None:
    found = lab()
    guest = found.guest(name)
    wanted = {spec.path for spec in catalogue(found) if guest.role.name in spec.readers} if guest.role.identity else set()
    assert {path for file in rendered_files(found, guest) for path, _ in file.sources} == wanted


def test_a_file_with_what_the_guest_may_not_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lab()
    for source in (("store/root", "secret_key"), ("gitlab/root", "no_such_field")):
        monkeypatch.setattr(rendered, "_FILES", {"docker": (RenderedFile("/run/lab/x", value=source),)})
        with pytest.raises(LabError, match="may not read"):
            rendered_files(found, found.guest("docker"))


def test_without_the_bucket_there_is_no_file_but_the_guest_still_logs_in() -> None:
    found = lab(store={"vmid": 101, "buckets": ["terraform", "gitlab"]})
    assert [template.path for template in templates(found, found.guest("docker"))] == ["/run/lab/identity.json"]


def test_the_first_file_says_who_the_guest_is_and_holds_no_secret() -> None:
    found = lab()
    first = templates(found, found.guest("gitlab"))[0]
    assert (first.path, first.text) == ("/run/lab/identity.json", '{"role": "guest-gitlab"}')


def test_a_secret_that_another_system_issues_is_looked_for_in_the_list_first() -> None:
    found = lab()
    (awaited,) = [template for template in templates(found, found.guest("gitlab")) if template.awaited]
    assert awaited.path == "/run/lab/runner.token"
    assert awaited.text.startswith(
        '{{ range secrets "lab/metadata/gitlab/" }}{{ if eq . "runner" }}{{ with secret "lab/data/gitlab/runner" }}'
    )
    assert all("\n" not in template.text for template in templates(found, found.guest("gitlab")))
