"""Guest `gitlab`: GitLab, its container registry, and a runner with the docker executor."""

from __future__ import annotations

from labctl.cloudinit.base import ETC, SCRIPTS, UNITS, authority_file, environment_file, install, repository, script
from labctl.cloudinit.layerfiles import layer_template
from labctl.cloudinit.part import Command, GuestFile, Part
from labctl.cloudinit.quoting import ruby
from labctl.cloudinit.request import UserDataRequest
from labctl.model.guestfiles import GITLAB_SECRETS_FILE, RUNNER_TOKEN_FILE

GITLAB_SECRETS_KEYS = ("root_password", "api_token", "s3_access_key", "s3_secret_key")
"""The keys of the JSON object in `GITLAB_SECRETS_FILE`; GitLab is configured as soon as it arrives."""

REGISTRY_BUCKET = "gitlab"

_CONFIGURE = "lab-gitlab-configure"
_REGISTER = "lab-runner-register"


def gitlab_part(request: UserDataRequest) -> Part:
    """GitLab and runner, installed but not configured: both wait for what labctl delivers under `/run/lab`."""
    return Part(
        packages=("openssh-server", "perl", "tzdata"),
        files=(
            GuestFile("/etc/gitlab/gitlab.rb", _gitlab_rb(request), mode="0600"),
            *authority_file(request, "/etc/gitlab/trusted-certs/lab.crt"),
            GuestFile(f"{SCRIPTS}/gitlab-settings.rb", _settings_rb()),
            script("base/add-repository"),
            script("gitlab/install-gitlab"),
            script("gitlab/configure-gitlab"),
            *_units(_CONFIGURE, secrets_file=GITLAB_SECRETS_FILE),
            GuestFile(f"{ETC}/runner.env", _runner_settings(request)),
            script("gitlab/register-runner"),
            *_units(_REGISTER, token_file=RUNNER_TOKEN_FILE),
        ),
        commands=(
            *_repositories(request.lab.package_repository),
            *install("gitlab-runner"),
            (f"{SCRIPTS}/install-gitlab",),
            ("systemctl", "daemon-reload"),
            ("systemctl", "enable", "--now", f"{_CONFIGURE}.path", f"{_REGISTER}.path"),
            # For what was delivered before the path units watched; the services skip what is not there.
            ("systemctl", "start", "--no-block", f"{_CONFIGURE}.service", f"{_REGISTER}.service"),
        ),
    )


def _gitlab_rb(request: UserDataRequest) -> str:
    lab = request.lab
    return layer_template(
        "gitlab/gitlab.rb",
        secrets_file=ruby(GITLAB_SECRETS_FILE),
        external_url=ruby(lab.gitlab_url),
        registry_external_url=ruby(f"http://{lab.registry_host}"),
        time_zone=ruby(lab.platform.gitlab.time_zone),
        bucket=ruby(REGISTRY_BUCKET),
        region=ruby(request.s3_region),
        endpoint=ruby(request.s3_endpoint),
    )


def _settings_rb() -> str:
    return layer_template("gitlab/gitlab-settings.rb", secrets_file=ruby(GITLAB_SECRETS_FILE))


def _repositories(base: str) -> tuple[Command, ...]:
    """GitLab's and the runner's repositories; one key signs the metadata of both.

    Source: GitLab's blog, "Changes to packages.gitlab.com: What you need to know" (2026): from October 2026 the path of gitlab-ce
    carries the code name, that of the runner does not, and the key lies at /gpgkey/gpg.key.
    """
    key = f"{base}/gpgkey/gpg.key"
    return (
        repository("gitlab-ce", key, f"{base}/gitlab/gitlab-ce/@ID@/@CODENAME@", "@CODENAME@", "main"),
        repository("gitlab-runner", key, f"{base}/runner/gitlab-runner/@ID@", "@CODENAME@", "main"),
    )


def _runner_settings(request: UserDataRequest) -> str:
    runner = request.lab.platform.gitlab.runner
    return environment_file(
        {
            "LAB_RUNNER_URL": request.lab.gitlab_url,
            "LAB_RUNNER_NAME": request.guest.name,
            "LAB_RUNNER_IMAGE": runner.image,
            "LAB_RUNNER_CONCURRENT": str(runner.concurrent),
            # Containers of jobs do not see the guest's /etc/hosts.
            "LAB_RUNNER_EXTRA_HOSTS": " ".join(f"{name}:{request.hosts[name]}" for name in sorted(request.hosts)),
        }
    )


def _units(name: str, **paths: str) -> tuple[GuestFile, ...]:
    return tuple(
        GuestFile(f"{UNITS}/{name}.{kind}", layer_template(f"gitlab/{name}.{kind}", **paths)) for kind in ("path", "service")
    )
