"""How a source is read: what the config says of it, and its files as decompressed bytes and as text."""

import codecs
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from rnn_jax.errors import InputError, require
from rnn_jax.files import Bounded, Readable

if TYPE_CHECKING:
    import pyarrow

BUFFER = 2**20  # bytes
COMPRESSED_AT_ONCE = 2**10  # bytes
PROBED = 2**18  # bytes that are looked at to tell an encoding
MARKS = {  # the longest first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ARCHIVES = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zst", b"PK\3\4": "zip"}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".zip")


class EmptySourceError(InputError):
    """The file is well formed and holds no rows.

    Attributes:
      names, schema: its columns and their types, where the reader knows them; else none, and None.
    """

    def __init__(self, message: str, names: Sequence[str] = (), schema: "pyarrow.Schema | None" = None):
        super().__init__(message)
        self.names, self.schema = list(names), schema


class NotTextError(InputError):
    """The bytes of a file are no text in its encoding; `elsewhere` says so where no setting names it."""

    def __init__(self, message: str, elsewhere: str):
        super().__init__(message)
        self.elsewhere = elsewhere


@contextmanager
def read_for(setting: str) -> Iterator[None]:
    """Puts a setting before errors about its source, which data.encoding says nothing of."""
    try:
        yield
    except InputError as error:
        reason = error.elsewhere if isinstance(error, NotTextError) else str(error)
        raise InputError(f"{setting}: {reason}") from error


def quiet(_: str) -> None:
    """Says nothing: the default of `say`."""


class Reading(NamedTuple):
    """What is known of a source before it is read, and who hears what a reader decides on its own.

    Attributes:
      text_column: the name of the column of texts; digits in it stay as they are written. "" knows none.
      delimiter: what stands between the fields of a file of separated values; "" finds it.
      encoding: of files of text, a name that Python knows; "" is UTF-8, or what a byte order mark says.
      name, revision: the configuration and the version of a dataset on the hub; "" is its default.
      say: takes a line for the log.
      every_row: whether the empty rows between others in a sheet of Excel are rows too: to predict, not to
        train on.

    >>> Reading("review", delimiter=";").encoding
    ''
    """

    text_column: str = ""
    delimiter: str = ""
    encoding: str = ""
    name: str = ""
    revision: str = ""
    say: Callable[[str], None] = quiet
    every_row: bool = False


def reading_of(data: Mapping[str, Any]) -> tuple[Reading, list[str]]:
    """Returns what a section `config.data` says of its source, and the list that the reader's lines go to."""
    said: list[str] = []
    given = {key: data.get(key, "") for key in Reading._fields if key not in ("say", "every_row")}
    return Reading(**given, say=said.append), said


def check_reading(reading: Reading) -> None:
    r"""Raises InputError for a delimiter or an encoding that cannot be.

    >>> check_reading(Reading(encoding="latin-9999"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: data.encoding is 'latin-9999', which Python does not know; ...
    """
    try:
        b"0000".decode(reading.encoding or "utf-8")  # of nothing, Python looks no name up
        known = True
    except (LookupError, ValueError, UnicodeError):
        known = False
    require(
        known,
        f"data.encoding is {reading.encoding!r}, which Python does not know; give 'utf-8', 'cp1252', "
        "'latin-1', 'utf-16' or another of its names",
    )
    delimiter = reading.delimiter
    require(
        len(delimiter) <= 1 and delimiter not in ('"', "\n", "\r"),
        f"data.delimiter is {delimiter!r}; give one character that is no quote and no line break",
    )


def refuse_unused(reading: Reading, source: str, used: Sequence[str]) -> None:
    """Raises InputError for a setting that a source has no use for.

    >>> refuse_unused(Reading(delimiter=";"), "a.parquet", used=())
    Traceback (most recent call last):
    ...
    rnn_jax.errors.InputError: data.delimiter is ';', but a.parquet has no separated values; leave it ''
    """
    for setting, what in (
        ("delimiter", "has no separated values"),
        ("encoding", "has no files of text"),
        ("name", "is no dataset of the hub"),
        ("revision", "is no dataset of the hub"),
    ):
        given = getattr(reading, setting)
        require(
            not given or setting in used, f"data.{setting} is {given!r}, but {source} {what}; leave it ''"
        )


def split_name(path: PurePath) -> tuple[str, str]:
    """Returns the suffix that tells the format and the one that tells the compression, in lower case.

    >>> split_name(PurePath("Reviews.CSV.gz")), split_name(PurePath("a.parquet"))
    (('.csv', '.gz'), ('.parquet', ''))
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        return (suffixes[-2] if len(suffixes) > 1 else "", suffixes[-1])
    return (suffixes[-1] if suffixes else "", "")


@contextmanager
def opened(path: Path, member: str = "") -> Iterator[BinaryIO]:
    """Gives a stream of a file's bytes, decompressed as its suffix says; nothing is unpacked to disk.

    Args:
      path: the file; of an archive its member is read, which may go unnamed where it is the only one.
      member: its name.

    Raises:
      InputError: as it is read, where it expands to more than `files.most_bytes` allows.
    """
    compression = split_name(path)[1]
    with ExitStack() as stack:
        if not compression:
            yield stack.enter_context(path.open("rb", BUFFER))
            return
        stream: Readable
        if compression == ".gz":
            import gzip

            stream = stack.enter_context(gzip.open(path, "rb"))
        elif compression == ".bz2":
            import bz2

            stream = stack.enter_context(bz2.open(path, "rb"))
        elif compression == ".xz":
            import lzma

            stream = stack.enter_context(lzma.open(path, "rb"))
        elif compression == ".zst":
            stream = Zstandard(stack.enter_context(path.open("rb")))
        else:
            archive = stack.enter_context(zipfile.ZipFile(path))
            stream = stack.enter_context(archive.open(member or _only_member(path, archive)))
        yield io.BufferedReader(Bounded(stream, path), BUFFER)


class Zstandard:
    """A decompressed .zst file; unlike the library's own reader it tells where one is cut off."""

    def __init__(self, file: BinaryIO):
        self.file, self.ready, self.rest = file, b"", b""
        self.frame: Any = None  # of the library, while it is not at its end

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes. Raises OSError for a damaged file, EOFError for one cut off."""
        import zstandard

        # A chunk of compressed bytes is small, for it may expand to thousands of times its size.
        while not self.ready and (chunk := self.rest or self.file.read(COMPRESSED_AT_ONCE)):
            self.frame = self.frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                self.ready, self.rest = self.frame.decompress(chunk), b""
            except zstandard.ZstdError as error:  # a class of its own, which no reader knows
                raise OSError(str(error)) from error
            if self.frame.eof:
                self.rest, self.frame = self.frame.unused_data, None
        if not self.ready and self.frame is not None:
            raise EOFError("the file ends within a frame of compressed bytes")
        given, self.ready = self.ready[:size], self.ready[size:]
        return given


def _only_member(path: Path, archive: zipfile.ZipFile) -> str:
    """Returns the name of the one file in an archive, beside those that macOS puts into it."""
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    names = [name for name in names if not name.startswith("__MACOSX/")]
    require(
        len(names) == 1,
        f"{str(path)!r} holds {len(names)} files, {', '.join(map(ascii, names[:10]))}; unpack it, and give "
        "the file or the folder",
    )
    return names[0]


def member_suffix(path: Path) -> str:
    """Returns the suffix of the one file in a .zip archive, in lower case."""
    with zipfile.ZipFile(path) as archive:
        return PurePath(_only_member(path, archive)).suffix.lower()


def encoding_of(path: Path, reading: Reading) -> str:
    """Returns the encoding of a file: the one that is set, what its byte order mark says, or UTF-8."""
    if reading.encoding:
        return reading.encoding
    with opened(path) as file:
        start = file.read(4)
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")


def text_of(path: Path, reading: Reading) -> str:
    """Returns a file's text. Raises InputError, which says what its bytes look like, where it is none."""
    encoding = encoding_of(path, reading)
    with opened(path) as file:
        content = file.read()
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise not_text(path, encoding, error) from error
    return text.removeprefix("\ufeff")


def not_text(path: Path, encoding: str, error: UnicodeError) -> NotTextError:
    """Returns the error of a file whose bytes are no text in an encoding, with what they look like."""
    with opened(path) as file:
        content = file.read(PROBED)
    archive = next((name for mark, name in ARCHIVES.items() if content.startswith(mark)), "")
    setting = ""
    if archive:
        looks, cure = "like an archive", f"name it {path.name}.{archive}"
    elif (guess := _guess(content, encoding)) is not None:
        looks, cure = f"like {guess}", "save it as UTF-8"
        setting = f"set data.encoding (or --encoding) to {guess!r}, or "
    else:
        looks, cure = "like no text at all", "give a file of text"
    place = f" ({error.reason} at byte {error.start:,})" if isinstance(error, UnicodeDecodeError) else ""
    start = f"could not read {str(path)!r}: it is no text in {encoding}{place}; it looks {looks}: "
    return NotTextError(f"{start}{setting}{cure}", elsewhere=f"{start}{cure}")


def _guess(content: bytes, tried: str) -> str | None:
    """Returns what charset-normalizer takes bytes for, by the name that spreadsheets use."""
    import charset_normalizer

    content = content[: content.rfind(b"\n") + 1] or content
    if b"\0" in content:  # UTF-16 without its mark, where every other byte of plain letters is zero
        halves = [content[start::2].count(0) for start in (0, 1)]
        if max(halves) < len(content) // 8:
            return None
        return "utf-16-be" if halves[0] > halves[1] else "utf-16-le"
    letters = sum(byte > 127 or chr(byte).isalpha() for byte in content)
    if 3 * sum(byte > 127 for byte in content) < letters and _all_letters(content, "cp1252"):
        return "cp1252"  # some accents among plain letters, which are too few for the library to tell
    best = charset_normalizer.from_bytes(content).best()
    if best is None or best.encoding == codecs.lookup(tried).name.replace("-", "_"):
        return None
    # Its code pages for western letters differ in characters that hardly any text has.
    western = ("cp125", "latin", "iso8859", "mac_", "cp850", "cp437", "cp858", "hp_roman")
    if best.encoding.startswith(western) and _all_letters(content, "cp1252"):
        return "cp1252"
    return best.encoding


def _all_letters(content: bytes, encoding: str) -> bool:
    """Returns whether the bytes beyond ASCII are letters and signs of western text in this encoding."""
    try:
        beyond = [character for character in content.decode(encoding) if not character.isascii()]
    except UnicodeDecodeError:
        return False
    usual = sum(character in WESTERN for character in beyond)
    return usual >= 0.9 * len(beyond)


WESTERN = set("àâäáãåæçèéêëìíîïñòóôöõøœùúûüýÿßÀÂÄÁÃÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖÕØŒÙÚÛÜÝŸ€£«»“”‘’„‚–—…°§©®™¿¡·´`½¼¾²³")  # noqa: RUF001
