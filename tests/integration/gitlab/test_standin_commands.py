"""`gitlab-ctl`, `gitlab-rails` and `gitlab-runner` of the stand-ins, below a folder instead of in a guest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import gitlab
import pytest

from tests.gitlabstandin import SECRETS, SETTINGS, Standin
from tests.waiting import until

pytestmark = pytest.mark.integration

CONFIG = "/etc/gitlab-runner/config.toml"


def registry(standin: Standin) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(standin.read("/var/opt/gitlab/registry/config.yml"))
    return found


def today() -> date:
    return datetime.now(UTC).date()


class TestReconfigure:
    def test_the_registry_gets_what_gitlab_rb_says(self, fresh: Standin) -> None:
        done = fresh.run("ctl", "reconfigure")
        assert done.returncode == 0, done.stderr
        config = registry(fresh)
        assert config["storage"]["s3"] == {
            "bucket": "gitlab",
            "region": "eu-west-1",
            "regionendpoint": "https://store.example.com:9000",
            "accesskey": "access",
            "secretkey": "s3-secret-value",
            "pathstyle": True,
            "checksum_disabled": True,
        }
        assert config["storage"]["redirect"] == {"disable": True}
        assert config["http"]["addr"] == ":5050"
        assert config["auth"]["token"]["realm"] == f"{fresh.url}/jwt/auth"
        assert (fresh.root / "var/opt/gitlab/registry/config.yml").stat().st_mode & 0o777 == 0o600
        assert [call for call in fresh.calls() if "restart" in call] == [
            "restart gitlab-runsvdir.service",
            "restart gitlab-registry.service",
        ]

    def test_nothing_is_restarted_when_nothing_changed(self, fresh: Standin) -> None:
        fresh.run("ctl", "reconfigure")
        before = len(fresh.calls())
        assert fresh.run("ctl", "reconfigure").returncode == 0
        assert not [call for call in fresh.calls()[before:] if call.startswith("restart")]

    def test_its_output_and_log_show_no_secret(self, fresh: Standin) -> None:
        done = fresh.run("ctl", "reconfigure")
        logs = [file.read_text() for file in (fresh.root / "var/log/gitlab/reconfigure").iterdir()]
        assert len(logs) == 1
        for secret in SECRETS.values():
            if secret != "access":
                assert secret not in done.stdout + done.stderr + logs[0]
        assert '"checksum_disabled": true' in logs[0]

    def test_gitlab_trusts_its_own_list_of_authorities_only(self, fresh: Standin) -> None:
        fresh.write("/etc/gitlab/trusted-certs/lab.crt", "LAB\n")
        fresh.write("/usr/local/share/ca-certificates/other.crt", "SYSTEM\n")
        fresh.run("ctl", "reconfigure")
        assert fresh.read("/var/opt/gitlab/registry/ca-bundle.pem") == "LAB\n"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("registrry['database'] = {}\n", "unknown setting 'registrry'"),
            ("external_url 'gitlab.example.com'\n", "must be an URL with its scheme"),
            ("def (\n", "syntax error"),
            ("raise 'not delivered'\n", "not delivered"),
            ("sidekiq['max_concurrency'] = 5\n", "removed configuration sidekiq"),
            ("git_data_dirs({})\n", "removed configuration 'git_data_dirs'"),
            ("registry['storage'] = { 'filesystem' => {} }\n", "neither s3_v2 nor s3"),
            ("registry['storage']['s3_v2'].delete('bucket')\n", "has no bucket"),
            ("registry['storage']['s3_v2']['regionendpoint'] = 'store:9000'\n", "needs its scheme"),
        ],
    )
    def test_what_omnibus_would_refuse(self, fresh: Standin, text: str, said: str) -> None:
        with (fresh.root / "etc/gitlab/gitlab.rb").open("a") as file:
            file.write(text)
        done = fresh.run("ctl", "reconfigure")
        assert done.returncode == 1
        assert said in done.stderr
        assert fresh.calls() == []

    def test_a_store_that_refuses_checksums_is_warned_of(self, fresh: Standin) -> None:
        with (fresh.root / "etc/gitlab/gitlab.rb").open("a") as file:
            file.write("registry['storage']['s3_v2'].delete('checksum_disabled')\n")
        assert "WARNING: checksum_disabled is not set" in fresh.run("ctl", "reconfigure").stdout

    def test_a_missing_secrets_file_is_told(self, fresh: Standin) -> None:
        (fresh.root / "run/lab/gitlab.json").unlink()
        done = fresh.run("ctl", "reconfigure")
        assert done.returncode == 1
        assert "Errno::ENOENT" in done.stderr

    def test_lost_keys_are_made_anew_and_what_they_sealed_is_lost(self, standin: Standin) -> None:
        project = standin.client().projects.create({"name": "kept"})
        project.variables.create({"key": "A", "value": "value"})
        standin.stop()
        (standin.root / "etc/gitlab/gitlab-secrets.json").unlink()
        assert standin.run("ctl", "reconfigure").returncode == 0
        standin.start()
        standin.client().auth()
        with pytest.raises(gitlab.GitlabHttpError, match="500"):
            standin.client().http_get(f"/projects/{project.id}/variables")

    def test_a_later_root_password_counts_no_more(self, standin: Standin) -> None:
        state = json.loads(standin.read("/var/opt/gitlab/standin/state.json"))
        standin.write("/run/lab/gitlab.json", json.dumps({**SECRETS, "root_password": "another-password"}))
        standin.run("ctl", "reconfigure")
        assert json.loads(standin.read("/var/opt/gitlab/standin/state.json"))["tables"]["users"] == state["tables"]["users"]


class TestSettings:
    """layers/gitlab/gitlab-settings.rb."""

    def settings(self, standin: Standin) -> subprocess.CompletedProcess[str]:
        return standin.run("rails", "runner", str(standin.root / "usr/local/lib/lab/gitlab-settings.rb"))

    def test_they_are_set_and_the_token_ends_within_a_year(self, standin: Standin) -> None:
        client = standin.client()
        found = client.settings.get()
        assert (found.signup_enabled, found.version_check_enabled, found.usage_ping_enabled) == (False, False, False)
        token = client.personal_access_tokens.get("self")
        assert (token.name, token.scopes, token.revoked) == ("labctl", ["api"], False)
        assert timedelta(days=360) < date.fromisoformat(token.expires_at) - today() <= timedelta(days=365)

    def test_again_changes_nothing(self, standin: Standin) -> None:
        assert self.settings(standin).returncode == 0
        assert len(standin.client().personal_access_tokens.list(get_all=True)) == 1

    def test_a_new_value_takes_the_place_of_the_old_one(self, standin: Standin) -> None:
        standin.write("/run/lab/gitlab.json", json.dumps({**SECRETS, "api_token": "glpat-another0123456789ab"}))
        assert self.settings(standin).returncode == 0
        with pytest.raises(gitlab.GitlabAuthenticationError):
            standin.client().auth()
        standin.client("glpat-another0123456789ab").auth()

    def test_one_that_was_revoked_or_expires_soon_lives_again(self, standin: Standin) -> None:
        client = standin.client()
        client.personal_access_tokens.delete("self")
        with pytest.raises(gitlab.GitlabAuthenticationError):
            client.auth()
        assert self.settings(standin).returncode == 0
        client.auth()

    def test_other_tokens_of_root_are_left_alone(self, standin: Standin) -> None:
        client = standin.client()
        users = client.users.get(1, lazy=True)
        made = users.personal_access_tokens.create({"name": "mine", "scopes": ["api"], "expires_at": str(today() + timedelta(9))})
        assert self.settings(standin).returncode == 0
        standin.client(made.token).auth()

    def test_what_the_database_does_not_know_fails(self, standin: Standin) -> None:
        done = standin.run("rails", "runner", "Gitlab::CurrentSettings.update!(signupp_enabled: false)")
        assert done.returncode != 0
        assert "unknown attribute 'signupp_enabled'" in done.stderr

    @pytest.mark.parametrize("end", ["nil", "400.days.from_now"])
    def test_a_token_must_end_within_a_year(self, standin: Standin, end: str) -> None:
        code = f"User.find_by_username('root').personal_access_tokens.create!(name: 'x', scopes: ['api'], expires_at: {end})"
        done = standin.run("rails", "runner", code)
        assert done.returncode != 0
        assert "ActiveRecord::RecordInvalid" in done.stderr

    def test_the_script_is_the_layers(self) -> None:
        assert "$secrets_file" in SETTINGS.read_text()


def runner_token(standin: Standin, **fields: Any) -> str:
    return str(standin.client().http_post("/user/runners", post_data={"runner_type": "instance_type", **fields})["token"])


def register(standin: Standin, token: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = [
        "--non-interactive",
        "--url",
        standin.url,
        "--name",
        "gitlab",
        "--executor",
        "docker",
        "--docker-image",
        "ubuntu:latest",
    ]
    return standin.run("runner", "register", *words, *more, CI_SERVER_TOKEN=token)


class TestRunner:
    def test_it_says_its_version(self, fresh: Standin) -> None:
        assert fresh.run("runner", "--version").stdout.startswith("Version:      19.3.0\n")

    def test_registration_writes_what_the_real_one_writes(self, standin: Standin) -> None:
        token = runner_token(standin, description="gitlab")
        done = register(standin, token, "--docker-extra-hosts", "store.example.com:192.0.2.11")
        assert done.returncode == 0, done.stderr
        assert token not in done.stdout + done.stderr
        config = tomllib.loads(standin.read(CONFIG))
        assert config["concurrent"] == 1
        (runner,) = config["runners"]
        assert (runner["name"], runner["url"], runner["id"], runner["token"]) == ("gitlab", standin.url, 1, token)
        assert runner["docker"]["image"] == "ubuntu:latest"
        assert runner["docker"]["extra_hosts"] == ["store.example.com:192.0.2.11"]
        assert (standin.root / CONFIG[1:]).stat().st_mode & 0o777 == 0o600
        assert standin.client().runners.get(1).status == "online"

    @pytest.mark.parametrize(
        ("token", "more", "said"),
        [
            ("glrt-unknown", (), "Failed to verify the runner"),
            ("GR1348941", (), "authentication token"),
            ("glrt-x", ("--tag-list", "docker"), "reserved"),
            ("glrt-x", ("--nothing", "1"), "flag provided but not defined: -nothing"),
        ],
    )
    def test_what_it_refuses(self, standin: Standin, token: str, more: tuple[str, ...], said: str) -> None:
        done = register(standin, token, *more)
        assert done.returncode == 1
        assert said in done.stderr
        assert not (standin.root / CONFIG[1:]).exists()

    def test_verify_and_unregister(self, standin: Standin) -> None:
        first, second = runner_token(standin), runner_token(standin)
        register(standin, first)
        assert standin.run("runner", "verify").returncode == 0
        standin.client().http_delete("/runners", query_data={"token": first})
        assert standin.run("runner", "verify").returncode == 1
        assert standin.run("runner", "unregister", "--name", "gitlab").returncode == 1
        assert standin.run("runner", "verify", "--delete", "--name", "gitlab").returncode == 0
        assert "[[runners]]" not in standin.read(CONFIG)
        register(standin, second)
        assert "gitlab" in standin.run("runner", "list").stderr
        assert standin.run("runner", "unregister", "--name", "gitlab").returncode == 0
        assert standin.client().runners_all.list(get_all=True) == []
        assert standin.run("runner", "unregister", "--name", "gitlab").returncode == 1

    def test_it_works_and_takes_up_a_changed_configuration(self, standin: Standin) -> None:
        register(standin, runner_token(standin))
        standin.write(CONFIG, standin.read(CONFIG).replace("check_interval = 0", "check_interval = 1"))
        code = "import sys; from standin.runner import main; sys.exit(main(sys.argv[1:]))"
        log = standin.root / "runner.log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", code, "run"], env=standin.environment, stderr=output)
        try:
            project = standin.client().projects.create({"name": "jobs"})
            variables = [{"key": "STANDIN_SECONDS", "value": "2"}]
            made = [project.pipelines.create({"ref": "main", "variables": variables}) for _ in range(2)]
            until(lambda: {p.status for p in project.pipelines.list(get_all=True)} == {"running", "created"})
            standin.write(CONFIG, standin.read(CONFIG).replace("concurrent = 1\n", "concurrent = 4\n"))
            until(lambda: all(project.pipelines.get(p.id).status == "success" for p in made))
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0
        text = log.read_text()
        assert re.findall(r"concurrent=(\d)", text) == ["1", "4"]
        assert "glrt-" not in text
