"""What hostile files hold: texts, tables and archives, drawn from a generator; and damage to any of them."""

import csv
import functools
import gzip
import io
import json
import random
import zipfile

WORDS = ("a", "great", "film", "dull", "moving", "awful", "the", "and", "what", "is")
ODD_TEXTS = (
    "",
    " ",
    "NA",
    "null",
    "nan",
    "1e5",
    "007",
    "true",
    "2020-01-01",
    "2020-01-01 00:00:00",
    '=HYPERLINK("http://x","y")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "a\u200bb\u200d\ufeffc",
    "e\u0301 \u00e9 \u212b",
    "\u202egnp.exe\u202c",
    "\U0001f600" * 50,
    "a\u2028b\u2029c\x85d",
    "x" * 100_000,
    "great " * 20_000,
    "[PAD] [UNK] <br /><BR>",
    "\t\v\f\x1c\x1f",
    "a\rb\r\nc\nd",
    'say "it", he said',
    "\x1b[31mred\x1b]0;title\x07",
    "${HOME} $(id) `id` {{7*7}} %s %n {0.__class__}",
    "__import__('os').system('id')",
)
UNENCODABLE = ("half \ud800 a pair", "\udcff", "\udfff\ud800")
LABELS = (0, 1, 2, -1, -7, 10**6, 2**63, 10**40, 1.5, "good", "bad", "", "1", True, None, [1], {"a": 1})


def text(rng: random.Random) -> str:
    """Returns words, or one of the odd texts, or both."""
    plain = " ".join(rng.choices(WORDS, k=rng.randrange(8)))
    return rng.choice((plain, plain, rng.choice(ODD_TEXTS), f"{plain} {rng.choice(ODD_TEXTS)}"))


def rows(rng: random.Random, wild: float) -> list[dict]:
    """Returns rows of a text and a label; a share `wild` of them has something else there, or more."""
    found = []
    for _ in range(rng.choice((0, 1, 2, 5, 20))):
        row = {"text": text(rng), "label": rng.randrange(2)}
        if rng.random() < wild:
            name = rng.choice(("text", "label", "extra", "self", "", "a.b", "text "))
            row[name] = rng.choice((*LABELS, *UNENCODABLE, text(rng)))
        if rng.random() < wild / 4:
            row.pop(rng.choice(list(row)))
        found.append(row)
    return found


def csv_bytes(rng: random.Random, table: list[dict]) -> bytes:
    """Returns a CSV file of the rows, with any line ending and quoting that `csv` has."""
    names = list(dict.fromkeys(name for row in table for name in row)) or ["text", "label"]
    file = io.StringIO(newline="")
    ending = rng.choice(("\n", "\r\n", "\r"))
    writer = csv.writer(file, lineterminator=ending, quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in table)
    return file.getvalue().encode("utf-8", "surrogatepass")


def json_bytes(rng: random.Random, table: list[dict]) -> bytes:
    """Returns the rows as JSON lines, or as an array, escaped or not."""
    ascii_only, indent = rng.random() < 0.5, rng.choice((None, None, 1))
    lines = [json.dumps(row, ensure_ascii=ascii_only, indent=indent) for row in table]
    array = rng.random() < 0.2
    whole = "[" + ",".join(lines) + "]" if array else rng.choice(("\n", "\r\n")).join(lines)
    return (whole + rng.choice(("", "\n"))).encode("utf-8", "surrogatepass")


def _cut(rng, content):
    return content[: rng.randrange(len(content) + 1)]


def _flipped(rng, content):
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inserted(rng, content, piece):
    place = rng.randrange(len(content) + 1)
    return content[:place] + piece + content[place:]


def _left_out(rng, content):
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randrange(1, 64) :]


def _overwritten(rng, content):
    start, size = rng.randrange(len(content) + 1), rng.randrange(1, 64)
    return content[:start] + rng.randbytes(size) + content[start + size :]


def _shuffled(rng, content):
    lines = content.split(b"\n")
    rng.shuffle(lines)
    return rng.choice((b"\n", b"\r\n", b"\r")).join(lines + lines[:1])


DAMAGE = {
    "cut short": _cut,
    "bits flipped": _flipped,
    "bytes left out": _left_out,
    "bytes overwritten": _overwritten,
    "bytes twice": lambda rng, content: _inserted(rng, content, content[: rng.randrange(200)]),
    "NULs in it": lambda rng, content: _inserted(rng, content, b"\0" * rng.choice((1, 2, 100))),
    "not UTF-8": lambda rng, content: _inserted(
        rng, content, rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80"))
    ),
    "a byte order mark": lambda rng, content: (
        rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0\0\xfe\xff")) + content
    ),
    "UTF-16": lambda rng, content: content.decode("latin-1").encode("utf-16"),
    "lines shuffled, endings mixed": _shuffled,
    "a line of a megabyte": lambda rng, content: _inserted(
        rng, content, rng.choice((b"a", b" ", b"1 ", b"[", b'"')) * 2**20
    ),
    "empty": lambda rng, content: rng.choice((b"", b"\n", b" \r\n" * 9, b"\xef\xbb\xbf")),
    "noise": lambda rng, content: rng.randbytes(rng.randrange(1, 3000)),
    "another format": lambda rng, content: gzip.compress(content),
}


def damaged(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    """Returns the kind of a damage, and the content with it."""
    kind = rng.choice(list(DAMAGE))
    return kind, DAMAGE[kind](rng, content or b"\n")


@functools.cache
def bomb(piece: bytes, size: int = 2**29) -> bytes:
    """Returns a gzip stream of `size` bytes of a repeated piece."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as stream:
        block = piece * (2**20 // len(piece))
        for _ in range(size // len(block)):
            stream.write(block)
    return file.getvalue()


@functools.cache
def zip_bomb(member: str, start: bytes = b"", size: int = 2**29) -> bytes:
    """Returns a zip archive whose member is `start` and then that many zeros."""
    file = io.BytesIO()
    entry = zipfile.ZipInfo(member)
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w") as archive, archive.open(entry, "w") as stream:
        stream.write(start)
        for _ in range(size // 2**20):
            stream.write(b"\0" * 2**20)
    return file.getvalue()
