"""Filling the mirror by building, with a script in Go's place that says what go says and notes what it was asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labctl.adapters.terraform import go_build, registry
from labctl.adapters.terraform.go_build import GoUnavailable, find_go
from labctl.adapters.terraform.mirror import ensure_provider, find_provider
from labctl.adapters.terraform.provider_spec import ProviderSpec
from labctl.adapters.terraform.registry import RegistryUnavailable
from labctl.model.errors import AdapterError, UserError

SPEC = ProviderSpec("acme", "thing", "1.2.3", "example.com/terraform-provider-thing", "h1:pinned=", (1, 26))
PLATFORM = "linux_amd64"

GO = """#!/bin/sh
here=$(dirname "$0")
echo "$* | $PWD | $CGO_ENABLED $GOFLAGS $GOTOOLCHAIN $GOOS/$GOARCH $GOSUMDB" >> "$here/asked"
case "$1" in
env) echo "VERSION" ;;
mod) [ -e "$here/no-module" ] && { cat "$here/no-module"; exit 1; }
  echo "go: downloading example.com/dep v1.0.0" >&2
  printf '{"Sum": "%s", "Dir": "%s"}' "$(cat "$here/sum")" "$here/source" ;;
build) [ -e "$here/broken" ] && { cat "$here/broken" >&2; exit 1; }
  [ -e "$here/slow" ] && sleep "$(cat "$here/slow")"
  while [ "$1" != -o ]; do shift; done
  echo "a provider" > "$2"; echo built >> "$here/built" ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Go 1.26.8 on PATH, where no registry answers."""
    folder = tmp_path / "go"
    (folder / "source").mkdir(parents=True)
    (folder / "sum").write_text(SPEC.module_sum)
    (folder / "go").write_text(GO.replace("VERSION", "go1.26.8"))
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.defpath}")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")

    def unavailable(*_args: object, **_given: object) -> None:
        raise RegistryUnavailable("ConnectTimeout")

    monkeypatch.setattr(registry, "download_provider", unavailable)
    return folder


def _package(mirror: Path) -> Path:
    return mirror / "registry.terraform.io/acme/thing/1.2.3" / PLATFORM


def _leftovers(mirror: Path) -> list[str]:
    return [path.name for path in (mirror / ".staging").iterdir() if path.is_dir()]


def test_it_is_built_once_with_stated_settings(go: Path, tmp_path: Path) -> None:
    mirror, said = tmp_path / "mirror", []
    assert find_provider(mirror, SPEC, platform=PLATFORM) is None
    entry = ensure_provider(mirror, SPEC, platform=PLATFORM, progress=said.append)
    assert (entry.source, entry.version, entry.origin) == ("registry.terraform.io/acme/thing", "1.2.3", "build")
    assert entry.path == _package(mirror)
    assert [path.name for path in entry.path.iterdir()] == ["terraform-provider-thing_v1.2.3"]
    assert os.access(entry.path / SPEC.binary_name, os.X_OK)
    assert "go: downloading example.com/dep v1.0.0" in said
    asked = [line.split(" | ") for line in (go / "asked").read_text().splitlines()]
    assert asked[1][0] == "mod download -json example.com/terraform-provider-thing@v1.2.3"
    assert asked[2][0].startswith("build -trimpath -ldflags -s -w -X main.version=1.2.3 -o /")
    assert asked[2][0].endswith("/terraform-provider-thing_v1.2.3 .")
    assert asked[2][1] == str(go / "source")
    assert {line[2] for line in asked[1:]} == {"0 -buildvcs=false local linux/amd64 off"}
    assert _leftovers(mirror) == []
    again = ensure_provider(mirror, SPEC, platform=PLATFORM)
    assert (again.origin, again.h1) == ("mirror", entry.h1)
    assert (go / "built").read_text() == "built\n"


def test_the_other_engines_registry_shares_the_package(go: Path, tmp_path: Path) -> None:
    first = ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM)
    second = ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM, host="registry.opentofu.org")
    assert (second.source, second.h1) == ("registry.opentofu.org/acme/thing", first.h1)
    assert (go / "built").read_text() == "built\n"


def test_another_source_than_the_pinned_one_is_not_built(go: Path, tmp_path: Path) -> None:
    (go / "sum").write_text("h1:other=")
    with pytest.raises(AdapterError, match="not the pinned one: h1:other="):
        ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM)
    assert not (go / "built").exists()
    assert _leftovers(tmp_path / "mirror") == []


def test_a_module_proxy_that_does_not_answer_is_said(go: Path, tmp_path: Path) -> None:
    error = 'Get "https://proxy.example.com/@v/v1.2.3.info": dial tcp: lookup proxy.example.com: no such host'
    (go / "no-module").write_text(json.dumps({"Path": SPEC.module, "Error": error}))
    with pytest.raises(AdapterError, match="could not be fetched: Get") as caught:
        ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM)
    assert "GOPROXY" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [("main.go:1: undefined: x", ""), ("compile: signal: killed", "memory"), ("write: no space left on device", "Free space")],
)
def test_a_build_that_fails_leaves_nothing(go: Path, tmp_path: Path, said: str, hint: str) -> None:
    (go / "broken").write_text(said)
    with pytest.raises(AdapterError, match="did not build: ") as caught:
        ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM)
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert not _package(tmp_path / "mirror").exists()
    assert _leftovers(tmp_path / "mirror") == []


@pytest.mark.usefixtures("go")
def test_an_empty_program_in_the_mirror_is_replaced(tmp_path: Path) -> None:
    _package(tmp_path / "mirror").mkdir(parents=True)
    (_package(tmp_path / "mirror") / SPEC.binary_name).touch(0o755)
    assert ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM).origin == "build"


def test_no_registry_and_no_go_says_both(go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (go / "go").write_text(GO.replace("VERSION", "go1.22.1"))
    monkeypatch.setattr(go_build, "_packaged", lambda: None)
    with pytest.raises(UserError) as caught:
        ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM)
    for word in ("ConnectTimeout", "no Go 1.26 or newer", "go1.22.1"):
        assert word in caught.value.message
    assert "labctl[go]" in caught.value.hint


def test_an_old_go_on_path_gives_way_to_the_packaged_one(go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "packaged" / "go"
    packaged.parent.mkdir()
    packaged.write_text(GO.replace("VERSION", "go1.27.3"))
    packaged.chmod(0o755)
    monkeypatch.setattr(go_build, "_packaged", lambda: packaged)
    assert find_go((1, 26)).path == go / "go"
    assert find_go((1, 27)).path == packaged
    with pytest.raises(GoUnavailable):
        find_go((1, 28))


def test_a_mirror_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "mirror").write_text("a file")
    with pytest.raises(AdapterError, match="cannot be written"):
        ensure_provider(tmp_path / "mirror", SPEC, platform=PLATFORM)


ONE_RUN = """
import sys
from pathlib import Path
from labctl.adapters.terraform import registry
from labctl.adapters.terraform.mirror import ensure_provider
from labctl.adapters.terraform.provider_spec import ProviderSpec
def unavailable(*_args, **_given):
    raise registry.RegistryUnavailable("off")
registry.download_provider = unavailable
spec = ProviderSpec("acme", "thing", "1.2.3", "example.com/terraform-provider-thing", "h1:pinned=", (1, 26))
print(ensure_provider(Path(sys.argv[1]), spec, platform="linux_amd64", progress=lambda line: print(line, file=sys.stderr)).origin)
"""


def _run(mirror: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ONE_RUN, str(mirror)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_runs_build_it_once(go: Path, tmp_path: Path) -> None:
    (go / "slow").write_text("3")
    runs = [_run(tmp_path / "mirror") for _ in range(2)]
    answers = [run.communicate(timeout=30) for run in runs]
    assert sorted(stdout.strip() for stdout, _ in answers) == ["build", "mirror"], answers
    assert sum("waiting for it" in stderr for _, stderr in answers) == 1
    assert (go / "built").read_text() == "built\n"


def test_a_run_that_is_killed_leaves_nothing_that_counts(go: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (go / "slow").write_text("2")
    run = _run(mirror)
    end = time.monotonic() + 20
    while "build " not in ((go / "asked").read_text() if (go / "asked").exists() else ""):
        assert time.monotonic() < end
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert find_provider(mirror, SPEC, platform=PLATFORM) is None
    assert len(_leftovers(mirror)) == 1
    (go / "slow").unlink()
    assert ensure_provider(mirror, SPEC, platform=PLATFORM).origin == "build"
    assert _leftovers(mirror) == []
