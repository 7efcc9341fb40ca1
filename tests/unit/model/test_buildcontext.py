from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.model.buildcontext import context_hash, in_context

names = st.text(st.characters(codec="utf-8"), max_size=8)
sources = st.dictionaries(names, st.binary(max_size=8), max_size=4)
arguments = st.dictionaries(names, names, max_size=3)


@pytest.mark.parametrize(
    ("path", "belongs"),
    [
        ("Dockerfile", True),
        ("mlserver/app.py", True),
        (".dockerignore", True),
        ("mlserver/__pycache__/app.cpython-313.pyc", False),
        ("stray.pyc", False),
        ("node_modules/x/index.js", False),
        ("a/.venv/bin/python", False),
    ],
)
def test_what_programs_leave_beside_a_source_is_no_part_of_it(path: str, belongs: bool) -> None:
    assert in_context(PurePosixPath(path)) is belongs


@given(sources, arguments, sources, arguments)
def test_the_hash_is_the_same_exactly_when_source_and_arguments_are(
    files: dict[str, bytes], args: dict[str, str], others: dict[str, bytes], more: dict[str, str]
) -> None:
    assert context_hash(dict(reversed(files.items())), dict(reversed(args.items()))) == context_hash(files, args)
    assert (context_hash(files, args) == context_hash(others, more)) is ((files, args) == (others, more))


def test_the_border_between_files_and_arguments_counts() -> None:
    assert context_hash({"a": b"b"}, {}) != context_hash({}, {"a": "b"})
    assert context_hash({"a": b"bc"}, {}) != context_hash({"ab": b"c"}, {})
