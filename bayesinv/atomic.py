"""Files that appear complete or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder to write to; at the end the file is renamed to `path`.

    If writing or renaming raises, the temporary file is removed and `path` stays as it was.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that no reader finds it incomplete."""
    with replacing(path) as part:
        part.write_bytes(content)


@contextmanager
def opened_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing, which is renamed to `path` at the end; after an exception nothing is left."""
    with replacing(path) as part, part.open("wb") as file:
        yield file
