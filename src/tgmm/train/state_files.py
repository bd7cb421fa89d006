"""The files of resumable states, as whoever watches a training reads them: names and headers, without torch."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

NAME = re.compile(r"state-(\d{9})-([0-9a-f]{16})\.safetensors")


def state_files(folder: Path) -> list[Path]:
    """The states in a folder, newest first."""
    return sorted((path for path in folder.glob("state-*.safetensors") if NAME.fullmatch(path.name)), reverse=True)


def read_header(path: Path) -> tuple[dict[str, Any], float]:
    """The training record in a state's header, and when the file was written (seconds since the epoch).

    The header is safetensors': its length in 8 bytes (little-endian), then JSON with the offsets of the tensors and,
    under ``__metadata__``, the training record. Tensors stay unread, so of their damage only a wrong size is noticed.

    Raises
    ------
    FileNotFoundError
    ValueError, TypeError, LookupError or AttributeError : where the file is no state.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        length = int.from_bytes(file.read(8), "little")
        if length > status.st_size:
            raise ValueError("the header is longer than the file")
        header = json.loads(file.read(length))
    record = json.loads(header.pop("__metadata__")["record"])
    if 8 + length + max(tensor["data_offsets"][1] for tensor in header.values()) != status.st_size:
        raise ValueError("the file has not the size that its header says")
    return record, status.st_mtime
