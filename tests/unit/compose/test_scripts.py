"""Scripts run by the real `sh` against a `docker` that records what it is given."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.adapters.compose import LocalShell, ShellError, scripts
from labctl.model.compose import RegistryLogin
from labctl.model.errors import UserError
from labctl.model.secret import Secret

AWKWARD = 'it\'s "a"\nline $HOME `id` \\ %s *'
FAKE = """\
#!/usr/bin/env python3
import json, os, sys
with open(os.environ["RECORD"], "a") as record:
    asked = sys.argv[1:]
    piped = sys.stdin.read() if "-" in asked or "-i" in asked else ""
    entry = {"argv": asked, "stdin": piped, "pw": os.environ.get("PW")}
    if folder := os.environ.get("DOCKER_CONFIG"):
        file = os.path.join(folder, "config.json")
        modes = [os.stat(one).st_mode & 0o777 for one in (folder, file)]
        entry |= {"config": open(file).read(), "modes": modes, "folder": folder}
    record.write(json.dumps(entry) + "\\n")
if "--hash" in asked:
    print("web abc")
if "--images" in asked:
    print("busybox:1")
if asked[:2] == ["image", "inspect"]:
    print('{"id":"sha256:1","digests":[]}')
sys.exit(int(os.environ.get("CODE", "0")) if "version" not in asked else 0)
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.record = folder / "record"
        program = folder / "docker"
        program.write_text(FAKE)
        program.chmod(0o755)
        self.folder = folder

    def run(self, script: str, code: int = 0) -> str:
        self.record.write_text("")
        env = {"RECORD": str(self.record), "CODE": str(code), "HOME": str(self.folder)}
        return LocalShell(env=env, path=[self.folder]).run(script)

    def every_call(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def calls(self) -> list[dict[str, str]]:
        return [one for one in self.every_call() if "version" not in one["argv"]]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def test_the_file_is_on_standard_input_and_secrets_are_in_the_environment_only(fake: Fake) -> None:
    answer = scripts.sections(fake.run(scripts.wanted("lab", f"text: {AWKWARD}", {"PW": Secret(AWKWARD)})))
    assert answer["hashes"] == "web abc\n"
    assert answer["images"] == 'busybox:1 {"id":"sha256:1","digests":[]}\n'
    compose = [one for one in fake.calls() if one["argv"][0] == "compose"]
    assert [one["argv"][1:7] for one in compose] == [["-p", "lab", "--project-directory", "/", "-f", "-"]] * 3
    assert {one["stdin"] for one in compose} == {f"text: {AWKWARD}"}
    assert {one["pw"] for one in compose} == {AWKWARD}
    assert not [one for one in fake.calls() if AWKWARD in " ".join(one["argv"])]


def test_a_plugin_that_lies_where_plugins_lie_is_not_run_to_see_whether_it_is_there(fake: Fake) -> None:
    plugin = fake.folder / ".docker" / "cli-plugins" / "docker-compose"
    plugin.parent.mkdir(parents=True)
    plugin.touch(mode=0o755)
    fake.run(scripts.down("lab", volumes=False))
    assert [one["argv"][:2] for one in fake.every_call()] == [["compose", "-p"]]


def test_up_recreates_what_it_is_told_first(fake: Fake) -> None:
    fake.run(scripts.up("lab", "services:", {}, ["a", "b"]))
    first, second = (one["argv"] for one in fake.calls())
    assert first[7:] == [
        *("up", "--detach", "--remove-orphans", "--no-build", "--quiet-pull"),
        *("--no-deps", "--force-recreate", "a", "b"),
    ]
    assert second[7:] == ["up", "--detach", "--remove-orphans", "--no-build", "--quiet-pull"]


@pytest.mark.parametrize(
    ("forced", "orphans", "more"),
    [(False, False, []), (True, False, ["--force-recreate"]), (False, True, ["--remove-orphans"])],
)
def test_one_service_is_replaced_alone(fake: Fake, *, forced: bool, orphans: bool, more: list[str]) -> None:
    fake.run(scripts.replace("lab", "services:", {}, "web-2", forced=forced, orphans=orphans))
    (call,) = fake.calls()
    assert call["argv"][7:] == ["up", "--detach", "--no-deps", "--no-build", "--quiet-pull", *more, "web-2"]


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        (scripts.down("lab", volumes=False), ["compose", "-p", "lab", "down", "--remove-orphans"]),
        (scripts.down("lab", volumes=True), ["compose", "-p", "lab", "down", "--remove-orphans", "--volumes"]),
        (scripts.logs(AWKWARD, 5), ["logs", "--tail", "5", AWKWARD]),
        (
            scripts.execute("id", ["sh", "-c", AWKWARD], AWKWARD, {"PW": Secret(AWKWARD)}),
            ["exec", "-i", "--env", "PW", "id", "sh", "-c", AWKWARD],
        ),
    ],
    ids=["down", "down with volumes", "logs", "exec"],
)
def test_words_stay_words(fake: Fake, script: str, argv: list[str]) -> None:
    fake.run(script)
    assert [one["argv"] for one in fake.calls()] == [argv]


def test_what_a_command_reads_comes_as_it_is(fake: Fake) -> None:
    fake.run(scripts.execute("id", ["cat"], AWKWARD, {"PW": Secret("hidden-word")}))
    (call,) = fake.calls()
    assert (call["stdin"], call["pw"]) == (AWKWARD, "hidden-word")
    assert "hidden-word" not in " ".join(call["argv"])


@pytest.mark.parametrize(
    "script",
    [
        scripts.wanted("lab", "x", {}),
        scripts.found("lab"),
        scripts.up("lab", "x", {}, ["a"]),
        scripts.replace("lab", "x", {}, "a", forced=False, orphans=False),
        scripts.down("lab", volumes=True),
        scripts.push("host/name:1"),
        scripts.execute("id", ["x"], "", {}),
        scripts.logs("id", 1),
    ],
    ids=["wanted", "found", "up", "replace", "down", "push", "exec", "logs"],
)
def test_a_docker_that_fails_is_a_script_that_fails(fake: Fake, script: str) -> None:
    with pytest.raises(ShellError) as caught:
        fake.run(script, code=3)
    assert caught.value.code == 3
    assert len(fake.calls()) == 1, "nothing goes on after a failure"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=40))
def test_any_secret_comes_through(value: str) -> None:
    script = f'{scripts.environment({"PW": Secret(value)})}\nprintf %s "$PW"'
    done = subprocess.run(["sh", "-s"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout.decode() == value


LOGIN = RegistryLogin("registry.example.com:5050", Secret("labctl-1"), Secret("hidden-word"))


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (scripts.push("registry.example.com:5050/a:1", [LOGIN]), 0),
        (scripts.fetch("registry.example.com:5050/a:1", [LOGIN]), 0),
        (scripts.pull("lab", "x", {}, [LOGIN]), 0),
        (scripts.push("registry.example.com:5050/a:1", [LOGIN]), 3),
    ],
    ids=["push", "fetch", "pull", "push that fails"],
)
def test_a_registry_is_told_who_asks_and_nothing_stays(fake: Fake, script: str, code: int) -> None:
    with pytest.raises(ShellError) if code else contextlib.nullcontext():
        fake.run(script, code)
    calls = fake.calls()
    assert calls
    for call in calls:
        auth = json.loads(call["config"])["auths"]["registry.example.com:5050"]["auth"]
        assert base64.b64decode(auth) == b"labctl-1:hidden-word"
        assert call["modes"] == [0o700, 0o600]
        assert not Path(call["folder"]).exists()
        assert "hidden-word" not in " ".join(call["argv"])


def test_without_a_login_the_users_own_counts(fake: Fake) -> None:
    fake.run(scripts.push("a:1"))
    assert "config" not in fake.calls()[0]


@pytest.mark.parametrize("name", ["", "A B", "A=1; id; B", "1A", "A\n", "$(id)"])
def test_a_name_that_no_variable_can_have_is_no_part_of_a_script(name: str) -> None:
    with pytest.raises(UserError, match="not a name for a variable"):
        scripts.environment({name: Secret("x")})


def test_settings_of_the_user_for_compose_do_not_count(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROFILES", "debug")
    assert fake.run('echo "<$COMPOSE_PROFILES>"') == "<>\n"


def test_parts_of_one_name_are_put_together() -> None:
    output = "noise\n\x1ea\n1\n\x1eb\n2\n\x1ea\n3\n"
    assert scripts.sections(output) == {"a": "1\n3\n", "b": "2\n"}
    assert scripts.sections("") == {}
    printed = subprocess.run(["sh", "-c", scripts.section("it's")], capture_output=True, text=True, check=True).stdout
    assert scripts.sections(printed) == {"it's": ""}
