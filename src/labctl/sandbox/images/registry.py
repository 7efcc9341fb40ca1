"""Serves kept images by the OCI distribution API, for reading only.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md: `/v2/`, manifests by tag and by digest, blobs, tags.
"""

from __future__ import annotations

import asyncio
import hashlib
import json

from aiohttp import web

from labctl.sandbox.images.catalogue import IMAGES, NAMESPACE, Image, recipe
from labctl.sandbox.images.store import MANIFEST_TYPE, ImageStore

_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}


def add_routes(application: web.Application, store: ImageStore) -> None:
    """Lets an application serve a store's images."""
    registry = _Registry(store)
    name = f"{NAMESPACE}/{{name}}"
    application.router.add_get("/v2/", registry.version)
    application.router.add_get("/v2", registry.version)
    application.router.add_get(f"/v2/{name}/manifests/{{reference}}", registry.manifest)
    application.router.add_get(f"/v2/{name}/blobs/{{digest}}", registry.blob)
    application.router.add_get(f"/v2/{name}/tags/list", registry.tags)
    application.router.add_route("*", "/v2/{rest:.*}", registry.other)


class _Registry:
    def __init__(self, store: ImageStore) -> None:
        self._store = store

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({}, headers=_VERSION)

    async def manifest(self, request: web.Request) -> web.Response:
        name, reference = request.match_info["name"], request.match_info["reference"]
        image = _image(name)
        if image is None:
            return _unknown(name)
        if reference.startswith("sha256:"):
            content = await asyncio.to_thread(self._store.manifest, reference)
            if content is None:
                return _refused(404, "MANIFEST_UNKNOWN", f"no image {NAMESPACE}/{name} with digest {reference} is kept")
        elif reference != image.version:
            known = f"{NAMESPACE}/{name} is there as {image.version}, not as {reference}"
            return _refused(404, "MANIFEST_UNKNOWN", known)
        else:
            content = await asyncio.to_thread(self._newest, image)
            if content is None:
                why = f"{NAMESPACE}/{name}:{reference} is not built on this machine: `labctl sandbox images {name}` builds it"
                return _refused(404, "MANIFEST_UNKNOWN", why)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        headers = _VERSION | {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        return web.Response(body=content, content_type=MANIFEST_TYPE, headers=headers)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        path = await asyncio.to_thread(self._store.blob, digest)
        if _image(request.match_info["name"]) is None or path is None:
            return _refused(404, "BLOB_UNKNOWN", f"no blob {digest} is kept")
        headers = _VERSION | {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        return web.FileResponse(path, headers=headers)

    async def tags(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        image = _image(name)
        if image is None:
            return _unknown(name)
        there = await asyncio.to_thread(self._newest, image) is not None
        return web.json_response({"name": f"{NAMESPACE}/{name}", "tags": [image.version] if there else []}, headers=_VERSION)

    async def other(self, request: web.Request) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            return _refused(405, "UNSUPPORTED", "the sandbox's registry is read-only")
        return _refused(404, "NAME_UNKNOWN", f"the sandbox's registry has nothing at {request.path}")

    def _newest(self, image: Image) -> bytes | None:
        kept = self._store.find(image.name, recipe(image.name))
        return self._store.manifest(kept.digest) if kept else None


def _image(name: str) -> Image | None:
    found = IMAGES.get(name)
    return found if found is not None and found.served else None


def _unknown(name: str) -> web.Response:
    there = ", ".join(image.name for image in IMAGES.values() if image.served)
    return _refused(404, "NAME_UNKNOWN", f"the sandbox has no image {NAMESPACE}/{name}; it has {there}")


def _refused(status: int, code: str, message: str) -> web.Response:
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": {}}]})
    return web.Response(status=status, text=body, content_type="application/json", headers=_VERSION)
