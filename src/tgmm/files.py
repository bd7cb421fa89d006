"""Files: written whole or not at all, by a temporary name that is then renamed; read with care; locks."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tgmm.errors import UserError, shown

if TYPE_CHECKING:
    import pandas as pd

NAME_SHOWN = 100  # characters of a file's name that its temporary name repeats, so that it stays a valid name
PARQUET = (".parquet", ".pq")
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# Limits of text that is read whole, and of a safetensors header; the largest header, of a long training, has 3 MB.
LARGEST_TEXT = 64 << 20
LARGEST_TABLE = 1 << 30  # bytes, of the file and of its numbers in double precision
DEEPEST = 20  # levels of lists and mappings in settings and records
LARGEST_HEADER = 32 << 20
MOST_TENSORS = 10_000
ITEM_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


# --- reading and writing ----------------------------------------------------------------------------------------------


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder, renamed to ``path`` when the block ends without an error.

    A symlink is followed: its target gets the new content and the link stays.

    Raises
    ------
    UserError : when ``path`` is a folder, a device or anything else but a regular file, when its folder cannot be
        written or when the disk is full. Whatever stood at ``path`` before is untouched.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        target = regular_target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.stem[:NAME_SHOWN]}."
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=f".tmp{target.suffix}", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except Exception as error:
        cause = _failed_write(error)
        if cause is None:
            raise
        raise UserError(f"{path}: cannot be written ({cause.strerror or cause})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_outputs(*paths: str | Path) -> None:
    """Refuse outputs that could not be written, all of them before any work is done.

    Raises
    ------
    UserError : for the first that is no regular file, or whose folder cannot be made or written.
    """
    for path in map(Path, paths):
        try:
            folder = regular_target(path).absolute().parent
            while not folder.exists():
                folder = folder.parent
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def regular_target(path: Path) -> Path:
    """Where to write for ``path``: itself, or what a symlink stands for; it need not exist.

    Raises
    ------
    UserError : for a folder, a device, a named pipe or a socket: replacing it would destroy it.
    OSError : where the path cannot be followed: a loop of links, a file in place of a folder, a name that is too long.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    except ValueError as error:
        raise UserError(f"{str(path)!r}: cannot be written ({error})") from error
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
        raise UserError(f"{path}: is {kind}; an output must be the path of a file")
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write a whole file by way of a temporary one; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, value: Any) -> None:
    """Write indented JSON with a final newline; NaN and infinity are refused (JSON has neither)."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, advice: str = "") -> Any:
    """The content of a JSON file; a `UserError` with the path, and the advice, where it cannot be read."""
    try:
        return parse_json(read_text(path), path)
    except UserError as error:
        raise UserError(f"{error}{advice}") from error


def read_made_json(path: str | Path, command: str) -> Any:
    """The content of a JSON file that a command made; a `UserError` that names the command where it cannot be read."""
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(f"{error}; `{command}` writes it") from error
    try:
        return parse_json(text, path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: damaged ({reason}); `{command}` writes it again") from error


def write_parquet(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, whole or not at all.

    Numbers with a fraction are split by byte before they are compressed (BYTE_STREAM_SPLIT): signs and exponents, which
    are much alike, then stand together, and a file of scores is a third smaller.
    """
    fractions = [name for name in table.columns if table[name].dtype.kind == "f"]
    others = [name for name in table.columns if name not in fractions]
    with atomic_path(path) as temporary:
        table.to_parquet(
            temporary, index=False, compression="zstd", compression_level=9,
            use_dictionary=others, use_byte_stream_split=fractions,
        )  # fmt: skip


def _failed_write(error: BaseException | None) -> OSError | None:
    """The error of the operating system, or the full disk behind an error of a library that was closing its file."""
    if isinstance(error, OSError):
        return error
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
        if isinstance(error, OSError) and error.errno in FULL:
            return error
    return None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


# --- reading text ----------------------------------------------------------------------------------------------------


def read_text(path: str | Path) -> str:
    """The content of a text file in UTF-8.

    Raises
    ------
    UserError : one line with the path, where it cannot be read, is no text or has more than 64 MB.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_TEXT + 1)
        if len(content) > LARGEST_TEXT:
            raise UserError(f"{path}: has more than {LARGEST_TEXT:,} bytes, which no such file has")
        return content.decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r}: is no path ({error})") from error


def refuse_large_table(path: Path) -> None:
    """Compare the size of a table with the limit before a row is read; what Parquet says of itself counts too.

    Raises
    ------
    UserError : one line with the path; a Parquet file that cannot be read is left to whoever reads it.
    """
    size = path.stat().st_size
    if size > LARGEST_TABLE:
        raise UserError(f"{path}: has {size:,} bytes, and no table has more than {LARGEST_TABLE:,}")
    if path.suffix.lower() in PARQUET:
        import pyarrow.parquet

        with suppress(pyarrow.ArrowException, OSError):
            header = pyarrow.parquet.read_metadata(path)
            refuse_large_shape(path, header.num_rows, header.num_columns)


def refuse_large_shape(path: Path, rows: int, columns: int) -> None:
    """Raise a `UserError` if so many numbers, of eight bytes each, are more than a table may have."""
    if rows * columns > LARGEST_TABLE // 8:
        most = LARGEST_TABLE // 8
        raise UserError(f"{path}: says that it has {rows:,} rows of {columns:,}; at most {most:,} numbers are read")


def parse_json(text: str, where: str | Path) -> Any:
    """The value of a JSON text in which no key is repeated.

    Parameters
    ----------
    text : JSON; NaN and Infinity may stand for numbers, as Python writes them.
    where : what the text is of, in front of an error.

    Raises
    ------
    UserError : one line with the place of the mistake.
    """
    try:
        value = json.loads(text, object_pairs_hook=_different_keys)
        _refuse_deep(value, DEEPEST)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"{error.msg}, line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}: not valid JSON ({place})") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: not valid JSON (a text with half a character)") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error})") from error
    return value


def _different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise ValueError(f"the key {shown(repeated)} stands there twice")
    return values


def _refuse_deep(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        for item in value.values() if isinstance(value, dict) else value:
            _refuse_deep(item, levels - 1)


# --- safetensors headers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a safetensors file says of itself; no tensor has been read.

    Attributes
    ----------
    metadata : texts by name.
    shapes : the shape of every tensor.
    dtypes : the type of every tensor, such as "F32".
    n_bytes : of all tensors together.
    """

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    n_bytes: int


def read_safetensors_header(path: str | Path) -> SafetensorsHeader:
    """The header of a safetensors file, compared with the size of the file before anything is allocated.

    The format is the header's length in 8 bytes (little-endian), then JSON with type, shape and place of each tensor
    and texts under ``__metadata__``, then the tensors without gaps.

    Raises
    ------
    UserError : one line with the path: the file cannot be read, is no regular file, is cut short or longer than its
        header says, or has a header above the limits (32 MB, 10,000 tensors).
    """
    path = Path(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: is {KINDS.get(stat.S_IFMT(status.st_mode), 'no regular file')}, not a file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if status.st_size < 8 or length > status.st_size - 8:
                raise UserError(f"{path}: not a safetensors file, or cut short: its header is longer than the file")
            if length > LARGEST_HEADER:
                raise UserError(f"{path}: its header has {length:,} bytes; at most {LARGEST_HEADER:,} are read")
            content = file.read(length)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return _parse_header(content, status.st_size - 8 - length)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: not a safetensors file, or a corrupt one ({reason})") from error


def _parse_header(content: bytes, n_bytes: int) -> SafetensorsHeader:
    """The header in ``content``, whose tensors must fill ``n_bytes`` exactly."""
    entries = json.loads(content)
    metadata = entries.pop("__metadata__", {})
    if len(entries) > MOST_TENSORS:
        raise ValueError(f"its header lists {len(entries):,} tensors; at most {MOST_TENSORS:,} are read")
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not texts")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        whole = all(type(size) is int and size >= 0 for size in entry["shape"])
        if not whole or first != end or last - first != math.prod(entry["shape"]) * ITEM_SIZES[entry["dtype"]]:
            raise ValueError(f"the place of tensor '{name[:NAME_SHOWN]}' does not fit its shape")
        end = last
    if end != n_bytes:
        raise ValueError(f"its header describes {end:,} bytes of tensors, and the file has {n_bytes:,}")
    shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
    return SafetensorsHeader(metadata, shapes, {name: entry["dtype"] for name, entry in entries.items()}, n_bytes)


# --- locks: the kernel's (flock), which end with their process, however that ends --------------------------------


class FileLock:
    """A lock on a file, which is made if it is not there; the lock is given back when the file is closed.

    Another user's file is enough, which can be read but not written. One that cannot be opened is an `OSError`.
    """

    def __init__(self, path: Path, *, create: bool = True):
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
        except PermissionError:
            self.descriptor = os.open(path, os.O_RDONLY)

    def acquire(self, *, shared: bool = False, wait: bool = False) -> bool:
        """Take the lock, or turn the one that is held into this kind; False where another process holds it.

        Several processes may hold a shared lock, none beside an exclusive one. Where the file system knows no locks, an
        `OSError`.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.descriptor, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self) -> str:
        """What stands in the file."""
        return os.pread(self.descriptor, 4096, 0).decode(errors="replace")

    def write(self, text: str) -> None:
        """Replace what stands in the file."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def close(self) -> None:
        """Close the file, and so give the lock back."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_locked(path: Path) -> bool:
    """Whether a process holds the exclusive lock on a file; no file is made, and no lock taken away.

    A shared lock is asked for without waiting and given back at once. Whoever asks for the exclusive one in those
    microseconds is refused, and gets it when it asks again.
    """
    try:
        with FileLock(path, create=False) as lock:
            return not lock.acquire(shared=True)
    except OSError:
        return False


LOCK_FILE = "tgmm.lock"
_held: list[FileLock] = []


def guard_workdir(folder: str | Path = ".snakemake") -> bool:
    """Remove left-over lock files of Snakemake, then hold the shared lock until the process ends.

    Every Snakemake holds a shared lock on a file for as long as it lives, and the kernel drops it however the process
    ends. So whoever gets it alone knows that Snakemake's own lock files are left-overs. Returns whether this process
    was alone; False also where the file system knows no locks, and then nothing is removed.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    _held.append(lock)
    try:
        alone = lock.acquire()
        for path in (folder / "locks").glob("*") if alone else ():
            path.unlink(missing_ok=True)
        lock.acquire(shared=True, wait=True)
    except OSError:
        return False
    return alone
