"""The sandbox's images: recipes, the store, the registry, errors of a build. No Docker."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Self

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from labctl.model.errors import AdapterError, UserError
from labctl.sandbox.guests.engine import EngineError
from labctl.sandbox.images import build, catalogue
from labctl.sandbox.images.catalogue import IMAGES, SERVED, artefacts, build_files, chosen, recipe
from labctl.sandbox.images.registry import add_routes
from labctl.sandbox.images.store import MANIFEST_TYPE, ImageStore, without_arguments


def saved(*layers: bytes, leave_out: int = -1, said: str = "") -> io.BytesIO:
    """What `docker save` of Docker 20.10 says of an image with these layers."""
    diffs = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    config = json.dumps({"rootfs": {"diff_ids": diffs}, "history": [{"created_by": said}]}).encode()
    files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers) if number != leave_out}
    files |= {"config.json": config, "manifest.json": json.dumps([{"Config": "config.json"}]).encode()}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as entries:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entries.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive


def blobs(store: ImageStore) -> set[str]:
    return {path.name for path in (store.folder / "blobs" / "sha256").iterdir()}


def test_every_image_has_what_it_is_built_from() -> None:
    for image in IMAGES.values():
        files = build_files(image)
        assert "Dockerfile" in files or not image.parent
        assert not image.parent or image.parent in IMAGES
        assert not any("__pycache__" in path for path in files)
        assert all(len(one.sha256) == 64 and one.url.startswith("https://repo1.maven.org/") for one in artefacts(image))
    assert len(artefacts(IMAGES["kafka"])) > 30


def test_a_recipe_follows_its_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe.cache_clear()
    before = {name: recipe(name) for name in IMAGES}
    real = catalogue.build_files

    def changed(image: catalogue.Image) -> dict[str, tuple[bytes, int]]:
        return real(image) | ({"more": (b"x", 0o644)} if image.name == "python" else {})

    monkeypatch.setattr(catalogue, "build_files", changed)
    recipe.cache_clear()
    after = {name: recipe(name) for name in IMAGES}
    monkeypatch.undo()
    recipe.cache_clear()
    differ = {name for name in IMAGES if before[name] != after[name]}
    assert differ == {"python", "mlflow", "standin", "ollama", "open_webui", "portainer"}


def test_an_unknown_image_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as refused:
        chosen(["postgress"])
    assert "postgres" in refused.value.hint
    assert [image.name for image in chosen([])] == list(SERVED)


def test_layers_in_common_are_kept_once(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    one = store.keep("one", "r1", saved(b"base" * 999, b"one"), time.monotonic())
    two = store.keep("two", "r1", saved(b"base" * 999, b"two"), time.monotonic())
    assert len(set(one.layers) & set(two.layers)) == 1
    assert store.find("one", "r1") == one
    assert store.find("one", "other") is None
    assert len(blobs(store)) == 3 + 2 * 2


def test_an_archive_without_a_layer_leaves_no_image(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(AdapterError, match="without its layer"):
        store.keep("one", "r1", saved(b"base", b"one", leave_out=1), time.monotonic())
    assert store.find("one", "r1") is None
    assert not list(tmp_path.glob("new-*"))
    with pytest.raises(tarfile.TarError):
        store.keep("one", "r1", io.BytesIO(saved(b"b" * 4096).getvalue()[:700]), time.monotonic())
    assert store.find("one", "r1") is None


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("|1 PACKAGE_INDEX=https://me:word@index.example /bin/sh -c uv pip install x", "/bin/sh -c uv pip install x"),
        ("|2 A=two words B=word /bin/sh -c true", "/bin/sh -c true"),
        ("|1 A=word /bin/sh -c sh x; /bin/sh -c y", "/bin/sh -c"),
        ("|1 A=word /bin/bash -ec true", "/bin/sh -c"),
        ("/bin/sh -c #(nop)  ARG PACKAGE_INDEX=", "/bin/sh -c #(nop)  ARG PACKAGE_INDEX="),
    ],
)
def test_build_arguments_are_not_served(said: str, kept: str) -> None:
    given = {"rootfs": {"diff_ids": ["sha256:1"]}, "history": [{"created_by": said}], "container_config": {"Cmd": [said]}}
    found = json.loads(without_arguments(json.dumps(given).encode()))
    assert found == {"rootfs": given["rootfs"], "history": [{"created_by": kept}]}


def test_no_file_of_an_image_that_is_kept_has_a_build_argument(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    store.keep(
        "one", "r1", saved(b"base", said="|1 PACKAGE_INDEX=https://me:word@index.example /bin/sh -c true"), time.monotonic()
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"/bin/sh -c true" in path.read_bytes() for path in files)
    assert not any(b"index.example" in path.read_bytes() for path in files)


def test_what_nothing_needs_is_removed(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    for number in range(5):
        store.keep("one", f"r{number}", saved(b"base", b"%d" % number), time.monotonic())
        store.clean("one", f"r{number}")
    (tmp_path / "blobs" / "sha256" / ("0" * 64)).write_text("cut off")
    store.clean("one", "r4")
    assert len(list((tmp_path / "images" / "one").iterdir())) == 3
    assert store.find("one", "r4") is not None
    assert len(blobs(store)) == 1 + 3 * 3


def test_a_blob_is_named_by_its_digest_only(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    store.keep("one", "r1", saved(b"base"), time.monotonic())
    for name in ("sha256:../../images/one/r1.json", "sha256:" + "0" * 64, "md5:1", "", "sha256:" + "g" * 64):
        assert store.blob(name) is None


def test_the_registry_answers_as_the_specification_says(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    kept = store.keep("postgres", recipe("postgres"), saved(b"base", b"postgres"), time.monotonic())

    async def ask() -> None:
        application = web.Application()
        add_routes(application, store)
        async with TestClient(TestServer(application)) as client:
            assert (await client.get("/v2/")).status == 200
            for reference in (IMAGES["postgres"].version, kept.digest):
                for method in ("GET", "HEAD"):
                    found = await client.request(method, f"/v2/lab/postgres/manifests/{reference}")
                    assert found.status == 200
                    assert found.headers["Content-Type"] == MANIFEST_TYPE
                    assert found.headers["Docker-Content-Digest"] == kept.digest
            manifest = json.loads(await (await client.get(f"/v2/lab/postgres/manifests/{kept.digest}")).read())
            for part in (manifest["config"], *manifest["layers"]):
                blob = await client.get(f"/v2/lab/postgres/blobs/{part['digest']}", auto_decompress=False)
                content = await blob.read()
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == part["digest"]
                assert len(content) == part["size"]
                assert "Content-Encoding" not in blob.headers
            assert (await (await client.get("/v2/lab/postgres/tags/list")).json())["tags"] == [IMAGES["postgres"].version]
            refused = {
                "/v2/lab/kafka/manifests/4.0.1": "labctl sandbox images kafka",
                "/v2/lab/postgres/manifests/17": f"is there as {IMAGES['postgres'].version}",
                "/v2/lab/standin/manifests/1": "has no image",
                "/v2/other/thing/manifests/1": "has nothing at",
                f"/v2/lab/postgres/blobs/sha256:{'0' * 64}": "no blob",
            }
            for path, reason in refused.items():
                answer = await client.get(path)
                assert answer.status == 404
                assert reason in (await answer.json())["errors"][0]["message"]
            assert (await client.post("/v2/lab/postgres/blobs/uploads/")).status == 405

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "the disk is full"),
        (EngineError("write /x: no space left on device"), UserError, "the disk is full"),
        (EngineError("E: Failed to fetch http://deb.debian.org"), AdapterError, "no network"),
        (EngineError("Temporary failure resolving 'deb.debian.org'"), AdapterError, "no network"),
    ],
)
def test_a_full_disk_and_no_network_are_told_with_a_remedy(error: Exception, kind: type[UserError], said: str) -> None:
    with pytest.raises(kind, match=said) as told, build._explained("image postgres"):
        raise error
    assert told.value.hint


def test_the_python_index_is_this_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in build.INDEXES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build, "PIP_FILES", (tmp_path / "pip.conf",))
    assert build.package_index() == ""
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://packages.example/simple%20x\n")
    assert build.package_index() == "https://packages.example/simple%20x"
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example")
    assert build.package_index() == "https://other.example"


def test_a_download_that_is_another_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Answer:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def raise_for_status(self) -> None:
            pass

        def iter_content(self, _size: int) -> list[bytes]:
            return [b"content"]

    monkeypatch.setattr(build.requests, "get", lambda *_args, **_options: Answer())
    right = hashlib.sha256(b"content").hexdigest()
    assert build.download(catalogue.Artefact(right, "https://x.example/a.jar"), tmp_path).read_bytes() == b"content"
    with pytest.raises(AdapterError, match="is not what labctl knows"):
        build.download(catalogue.Artefact("0" * 64, "https://x.example/b.jar"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jar"]
