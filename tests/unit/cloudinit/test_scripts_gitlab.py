"""The scripts that install and configure GitLab, run by bash against stand-ins of its commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Guest


class TestConfigureGitlab:
    SECRET = "correct-horse"

    @pytest.fixture(autouse=True)
    def _stand_ins(self, guest: Guest) -> None:
        guest.fake("gitlab-ctl", 'echo "gitlab-ctl $*" >> "$FAKE/log"; cat "$FAKE/run/lab/gitlab.json"; test ! -e "$FAKE/broken"')
        guest.fake("gitlab-rails", 'echo "gitlab-rails $1" >> "$FAKE/log"; test -s "$2"')
        guest.fake("dpkg-query", 'echo "Package: gitlab-ce"; echo "Version: $(cat "$FAKE/version")"')
        guest.write("version", "19.3.0-ce.0")
        guest.write("/etc/gitlab/gitlab.rb", "external_url 'x'\n")
        guest.write("/usr/local/lib/lab/gitlab-settings.rb", "settings\n")
        guest.write("/run/lab/gitlab.json", json.dumps({"root_password": self.SECRET}))

    def log(self, guest: Guest) -> list[str]:
        return guest.read("log").splitlines() if (guest.root / "log").exists() else []

    def test_it_configures_and_sets_what_is_in_the_database(self, guest: Guest) -> None:
        done = guest.run("configure-gitlab")
        assert done.returncode == 0, done.stderr
        assert self.log(guest) == ["gitlab-ctl reconfigure", "gitlab-rails runner"]
        assert self.SECRET not in done.stdout + done.stderr
        assert all(self.SECRET not in p.read_text() for p in (guest.root / "var").rglob("*") if p.is_file())

    def test_the_same_again_does_nothing(self, guest: Guest) -> None:
        guest.run("configure-gitlab")
        assert guest.run("configure-gitlab").returncode == 0
        assert len(self.log(guest)) == 2

    @pytest.mark.parametrize(
        "changed", ["/run/lab/gitlab.json", "/etc/gitlab/gitlab.rb", "/usr/local/lib/lab/gitlab-settings.rb"]
    )
    def test_a_change_is_applied(self, guest: Guest, changed: str) -> None:
        guest.run("configure-gitlab")
        guest.write(changed, "{}")
        assert guest.run("configure-gitlab").returncode == 0
        assert self.log(guest)[2:] == ["gitlab-ctl reconfigure", "gitlab-rails runner"]

    def test_a_new_package_is_restarted_as_well(self, guest: Guest) -> None:
        guest.run("configure-gitlab")
        guest.write("version", "19.4.0-ce.0")
        assert guest.run("configure-gitlab").returncode == 0
        assert self.log(guest)[2:] == ["gitlab-ctl reconfigure", "gitlab-ctl restart", "gitlab-rails runner"]

    def test_secrets_that_change_meanwhile_are_applied_too(self, guest: Guest) -> None:
        guest.fake(
            "gitlab-rails",
            'echo rails >> "$FAKE/log"; [ -e "$FAKE/once" ] || echo "{}" > "$FAKE/run/lab/gitlab.json"; touch "$FAKE/once"',
        )
        assert guest.run("configure-gitlab").returncode == 0
        assert self.log(guest) == ["gitlab-ctl reconfigure", "rails"] * 2

    def test_a_failed_reconfigure_fails_without_showing_secrets_and_is_tried_again(self, guest: Guest) -> None:
        guest.write("broken", "")
        done = guest.run("configure-gitlab")
        assert done.returncode == 1
        assert "/var/log/gitlab/reconfigure" in done.stderr
        assert self.SECRET not in done.stdout + done.stderr
        (guest.root / "broken").unlink()
        assert guest.run("configure-gitlab").returncode == 0
        assert self.log(guest) == ["gitlab-ctl reconfigure", "gitlab-ctl reconfigure", "gitlab-rails runner"]

    @pytest.mark.parametrize("text", ["", '{"root_password": '])
    def test_an_unfinished_file_is_never_used(self, guest: Guest, text: str) -> None:
        guest.fake("sleep", "true")
        guest.write("/run/lab/gitlab.json", text)
        done = guest.run("configure-gitlab")
        assert done.returncode == 1
        assert "is not JSON" in done.stderr
        assert self.log(guest) == []

    def test_a_package_that_cannot_be_asked_for_is_no_success(self, guest: Guest) -> None:
        guest.fake("dpkg-query", "exit 1")
        assert guest.run("configure-gitlab").returncode != 0


class TestInstallGitlab:
    @pytest.fixture(autouse=True)
    def _stand_ins(self, guest: Guest) -> None:
        guest.write("/etc/gitlab/gitlab.rb", "external_url 'http://gitlab.example.com'\n")
        guest.fake("dpkg-query", 'echo "Version: 19.3.0-ce.0"')

    def test_the_package_finds_no_configuration_that_it_would_apply(self, guest: Guest) -> None:
        look = 'ls "$FAKE/etc/gitlab" > "$FAKE/seen"; echo template > "$FAKE/etc/gitlab/gitlab.rb"; echo "$*" > "$FAKE/apt"'
        guest.fake("apt-get", look)
        done = guest.run("install-gitlab")
        assert done.returncode == 0, done.stderr
        assert "gitlab.rb\n" not in guest.read("seen")
        assert "skip-auto-reconfigure\n" in guest.read("seen")
        assert guest.read("apt").endswith("install -y gitlab-ce\n")
        assert "http://gitlab.example.com" in guest.read("/etc/gitlab/gitlab.rb")
        assert done.stderr == ""

    def test_the_configuration_comes_back_when_the_installation_fails(self, guest: Guest) -> None:
        guest.fake("apt-get", "exit 100")
        assert guest.run("install-gitlab").returncode == 100
        assert "http://gitlab.example.com" in guest.read("/etc/gitlab/gitlab.rb")
        guest.fake("apt-get", "true")
        assert guest.run("install-gitlab").returncode == 0

    def test_a_version_whose_registry_cannot_delete_is_named(self, guest: Guest) -> None:
        guest.fake("apt-get", "true")
        guest.fake("dpkg-query", 'echo "Version: 19.1.4-ce.0"')
        assert "19.1.4-ce.0 is older than 19.2.1" in guest.run("install-gitlab").stderr
