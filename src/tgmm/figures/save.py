"""The one way a figure reaches the disk: PDF and PNG, the same bytes for the same input."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from tgmm.files import atomic_path

FORMATS = ("pdf", "png")


def save_figure(figure: Figure, stem: str | Path, *, title: str, caption: str) -> list[Path]:
    """Write ``stem.pdf`` and ``stem.png`` and return their paths; title and caption go into the files' metadata.

    No date and no program version is stored, so that a redrawn figure differs only if its data or its code does.
    """
    metadata = {
        "pdf": {"Title": title, "Subject": caption, "Creator": None, "Producer": None, "CreationDate": None},
        "png": {"Title": title, "Description": caption, "Software": None},
    }
    paths = []
    for suffix in FORMATS:
        path = Path(f"{stem}.{suffix}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata[suffix])
        paths.append(path)
    return paths
