"""The digest of the kernels' sources: setup.py builds it into each library, so that an old one is known."""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = {"_kernels": ("*.cc", "*.h", "*.inc"), "_persistent": ("*.h", "cuda/*")}  # of each library


def digest(library: str) -> int:
    """Returns 64 bits of the SHA-256 of a library's sources, with their names.

    >>> digest("_kernels") == digest("_persistent")
    False
    """
    paths = sorted(path for pattern in SOURCES[library] for path in FOLDER.glob(pattern))
    found = hashlib.sha256()
    for path in paths:
        found.update(path.relative_to(FOLDER).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return int.from_bytes(found.digest()[:8])
