"""The licences of the packages that `make setup` installs: `make licences` lists them."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED = re.compile(r"^([\w.-]+)==", re.MULTILINE)
COPYLEFT = re.compile(r"GPL|General Public License", re.IGNORECASE)
CHOICE = re.compile(r" OR |; ")  # one of them may be chosen


def installed(names: list[str]) -> list[Distribution]:
    """The packages among the names that this machine has: some are for other systems or versions of Python."""
    found = []
    for name in names:
        try:
            found.append(distribution(name))
        except PackageNotFoundError:
            continue
    return found


def locked() -> list[str]:
    return LOCKED.findall((ROOT / "requirements.lock").read_text(encoding="utf-8"))


def licence(package: Distribution) -> str:
    """What a package says of its licence: an SPDX expression, else classifiers, a word, the head of a file; or "?"."""
    said = package.metadata
    classifiers = [text.split(" :: ")[-1] for text in said.get_all("Classifier", []) if text.startswith("License ::")]
    named = "; ".join(text for text in classifiers if text != "OSI Approved")
    files = [file for file in package.files or () if re.match(r"LICEN[CS]E|COPYING", file.name, re.IGNORECASE)]
    head = next((line.strip() for file in files for line in file.read_text().splitlines() if line.strip()), "?")
    return said["License-Expression"] or named or (said["License"] or head).splitlines()[0]


def is_copyleft(licence: str) -> bool:
    """Whether every licence that may be chosen is of the GPL's kind."""
    return all(COPYLEFT.search(choice) for choice in CHOICE.split(licence))


if __name__ == "__main__":
    for package in installed(locked()):
        print(f"{package.name:40} {package.version:14} {licence(package)}")
