"""Tagged sentences: words with one tag each, from CoNLL, CoNLL-U, JSON, Parquet, or the Hugging Face hub.

CoNLL has a word in each line, its columns separated by tabs or else by spaces, and an empty line after each
sentence. CoNLL-U is CoNLL of ten columns with names. In a table each row is a sentence: one column holds the
list of its words, another the list of its tags.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rnn_jax.data.columns import column_of
from rnn_jax.data.folders import SPLIT_NAME
from rnn_jax.data.reading import Reading, check_reading, refuse_unused, split_name, text_of
from rnn_jax.data.sources import Source, named, read_source
from rnn_jax.errors import InputError, nearest, require
from rnn_jax.files import DAMAGE, path_of, unreadable

if TYPE_CHECKING:
    import datasets

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
GLOBAL_COLUMNS = re.compile(r"#\s*global\.columns\s*=\s*(.+)")  # CoNLL-U Plus: the names of the columns
NO_WORD = re.compile(r"\d+[-.]\d+")  # the id of several words in one token, or of a word that is not written
DOCUMENT = "-DOCSTART-"  # a line of CoNLL-2003 between documents
NO_TAG = "_"  # what CoNLL-U has where nothing is annotated
WORD_COLUMNS = ("tokens", "words", "form")  # usual names of a table's columns
TAG_COLUMNS = ("tags", "ner_tags", "upos", "pos_tags", "labels")
# The suffixes of CoNLL, the surest first: of a folder only the files of the first one found are read.
CONLL_SUFFIXES = (".conllu", ".conllup", ".conll", ".iob", ".iob2", ".bio", ".tsv", ".txt")


class Sentence(NamedTuple):
    """The words of a sentence and a tag for each.

    >>> Sentence(["Dogs", "bark"], ["NOUN", "VERB"]).words
    ['Dogs', 'bark']
    """

    words: list[str]
    tags: list[str]


class Tagged(NamedTuple):
    """What a source holds.

    Attributes:
      splits: the sentences of each split by its name.
      tag_names: the names of the tags as a dataset on the hub lists them; () where the source has no list.
      passed_over: files of a folder that were not read.

    >>> Tagged({"train": [Sentence(["Run"], ["VERB"])]}, ("NOUN", "VERB"), ()).splits["train"][0].tags
    ['VERB']
    """

    splits: dict[str, list[Sentence]]
    tag_names: tuple[str, ...]
    passed_over: tuple[str, ...]


Reader: TypeAlias = Callable[[Path], list[Sentence]]


def read_tagged(
    source: Source, word_column: str = "", tag_column: str = "", reading: Reading | None = None
) -> Tagged:
    """Returns the tagged sentences of a source by split; a single file is the split "train".

    Args:
      source: a file or folder of CoNLL or CoNLL-U (`CONLL_SUFFIXES`, also compressed), or whatever
        `read_source` takes, with lists in its columns. The files of a folder are named after their splits,
        as in `read_source`: `en_ewt-ud-dev.conllu` is the split "validation".
      word_column, tag_column: the name of a column, or its number, counted from 0, or from the end if it is
        negative. "" takes form and upos of CoNLL-U, the first and the last column of other CoNLL, and of a
        table the one column that has a usual name (WORD_COLUMNS, TAG_COLUMNS).
      reading: the encoding of files, the configuration and version of a dataset on the hub, as in
        `read_source`.

    Raises:
      InputError: there is no such source, split or column; a file is damaged; a word has no tag, or a
        sentence has not one tag for each word.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "train.conll")
    >>> _ = path.write_text("Dogs NOUN\\nbark VERB\\n\\nRun VERB\\n")
    >>> read_tagged(str(path)).splits["train"]
    [Sentence(words=['Dogs', 'bark'], tags=['NOUN', 'VERB']), Sentence(words=['Run'], tags=['VERB'])]
    """
    if not isinstance(source, str):
        return _read_table(source, word_column, tag_column, reading)
    path = path_of(source)
    reading = reading or Reading()
    check_reading(reading)
    if path.is_file() and _suffix(path) in CONLL_SUFFIXES:
        refuse_unused(reading, repr(source), ("encoding",))
        return Tagged({"train": read_conll(path, word_column, tag_column, reading)}, (), ())
    if path.is_dir() and (files := _conll_files(path)):
        refuse_unused(reading, repr(source), ("encoding",))
        return _read_folder(path, files, word_column, tag_column, reading)
    return _read_table(source, word_column, tag_column, reading)


def _suffix(path: Path) -> str:
    return split_name(path)[0]


def _split_of(path: Path) -> str | None:
    """Returns the split that a file's name tells, or None."""
    match = SPLIT_NAME.search(path.name.lower())
    return str(match.lastgroup) if match else None


def _conll_files(folder: Path) -> list[Path]:
    """Returns the files of the surest suffix that is there; of .tsv and .txt those named after a split."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    for suffix in CONLL_SUFFIXES:
        named = suffix in (".tsv", ".txt")
        found = [path for path in files if _suffix(path) == suffix and (not named or _split_of(path))]
        if found:
            return found
    return []


def _read_folder(
    folder: Path, files: Sequence[Path], word_column: str, tag_column: str, reading: Reading
) -> Tagged:
    splits: dict[str, list[Sentence]] = {}
    whole = not any(map(_split_of, files))  # no name tells a split: all of it is to train on
    passed_over = [path.name for path in sorted(folder.iterdir()) if path not in files]
    for path in files:
        name = "train" if whole else _split_of(path)
        if name is None:
            passed_over.append(path.name)
        else:
            splits.setdefault(name, []).extend(read_conll(path, word_column, tag_column, reading))
    return Tagged(splits, (), tuple(passed_over))


def read_conll(
    path: Path, word_column: str = "", tag_column: str = "", reading: Reading | None = None
) -> list[Sentence]:
    """Returns the sentences of a file of CoNLL, or of CoNLL-U if that is its suffix; may be compressed.

    A line that begins with "#" is a comment if it has other columns than the words have; in CoNLL-U every
    such line is. Where a column is named "id", lines of several words in one token ("3-4") and of words that
    are not written ("8.1") are passed over, so that each word of the sentence has one tag.

    Raises:
      InputError: the file is damaged or not UTF-8, a line has no such column, or a word has no tag.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.conllu")
    >>> rows = [("1-2", "don't", "_", "_"), ("1", "do", "do", "AUX"), ("2", "n't", "not", "PART")]
    >>> _ = path.write_text("".join("\\t".join((*row, *6 * "_")) + "\\n" for row in rows))
    >>> read_conll(path)
    [Sentence(words=['do', "n't"], tags=['AUX', 'PART'])]
    """
    lines = _text(path, reading or Reading()).split("\n")
    names = CONLLU if _suffix(path) == ".conllu" else _global_columns(lines)
    word_at = _column(path, word_column or ("form" if "form" in names else "0"), names)
    tag_at = _column(path, tag_column or ("upos" if "upos" in names else "-1"), names)
    sentences, words, tags = [], list[str](), list[str]()
    for number, fields in _rows_of_words(path, [*lines, ""], names):
        if fields:
            words.append(_field(path, number, fields, word_at))
            tags.append(_field(path, number, fields, tag_at))
            require(
                not names or tags[-1] != NO_TAG,
                f"{path}, line {number}: the word {words[-1]!r} has no tag ({NO_TAG}) in its column; "
                "choose another column, or leave out the sentences that are not annotated",
            )
        elif words:
            sentences.append(Sentence(words, tags))
            words, tags = [], []
    require(bool(sentences), f"{path} holds no sentences")
    return sentences


def _rows_of_words(path: Path, lines: Sequence[str], names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the columns of each line of a word, and of each empty line, without columns."""
    ids = names.index("id") if "id" in names else None
    width = len(names) or _width(lines)
    for number, line in enumerate(lines, 1):
        fields = _fields(line)
        if fields and (_is_comment(line, fields, names, width) or fields[0] == DOCUMENT):
            continue
        require(
            not fields or not names or len(fields) == width,
            f"{path}, line {number}: it has {len(fields)} columns, not {width}: {line[:80]!r}",
        )
        if not fields or ids is None or not NO_WORD.fullmatch(fields[ids]):
            yield number, fields


def _text(path: Path, reading: Reading) -> str:
    """Returns what is in a file of text, decompressed; a byte order mark is left out."""
    try:
        return text_of(path, reading)
    except DAMAGE as error:
        raise unreadable(path, error) from error


def _fields(line: str) -> list[str]:
    """Returns the columns of a line; words of tab-separated lines may hold spaces."""
    line = line.rstrip("\r")
    if not line.strip():
        return []
    return line.split("\t") if "\t" in line else [part for part in line.split(" ") if part.strip()]


def _global_columns(lines: Sequence[str]) -> tuple[str, ...]:
    match = GLOBAL_COLUMNS.match(lines[0]) if lines else None
    return tuple(name.lower() for name in match.group(1).split()) if match else ()


def _width(lines: Sequence[str]) -> int:
    """Returns the number of columns of the first line that is surely a word's, or 0."""
    rows = (fields for line in lines if not line.startswith("#") and (fields := _fields(line)))
    return next((len(fields) for fields in rows if fields[0] != DOCUMENT), 0)


def _is_comment(line: str, fields: Sequence[str], names: Sequence[str], width: int) -> bool:
    return line.startswith("#") and (bool(names) or len(fields) != width)


def _column(path: Path, column: str, names: Sequence[str]) -> int:
    """Returns the position of a column; raises InputError for a name that is not there."""
    if re.fullmatch(r"-?\d+", column):
        return int(column)
    known = f"it has {', '.join(names)}" if names else "its columns have no names: give a number, from 0"
    require(
        column.lower() in names, f"{path} has no column {column!r}; {known}.{nearest(column.lower(), names)}"
    )
    return names.index(column.lower())


def _field(path: Path, number: int, fields: Sequence[str], place: int) -> str:
    require(
        -len(fields) <= place < len(fields),
        f"{path}, line {number}: it has {len(fields)} columns, and none is number {place}",
    )
    require(
        bool(fields[place].strip()), f"{path}, line {number}: column {place} is empty; write a word and a tag"
    )
    return fields[place]


def _read_table(source: Source, word_column: str, tag_column: str, reading: Reading | None) -> Tagged:
    """Returns the sentences of a source whose columns hold lists."""
    parts = read_source(source, reading)
    first = next(iter(parts.values()))
    word_column = word_column or _usual(source, first.column_names, WORD_COLUMNS, "word_column")
    tag_column = tag_column or _usual(source, first.column_names, TAG_COLUMNS, "tag_column")
    own_names = _tag_names(source, first, tag_column)
    return Tagged(
        {
            name: list(_rows_of_lists(part, name, word_column, tag_column, own_names))
            for name, part in parts.items()
        },
        own_names,
        (),
    )


def _usual(source: Source, columns: Sequence[str], usual: Sequence[str], setting: str) -> str:
    found = [name for name in usual if name in columns]
    require(
        len(found) == 1,
        f"data.{setting} is '', and {named(source)} has {len(found)} columns named {', '.join(usual)}; "
        f"name one of its columns: {', '.join(columns)}",
    )
    return found[0]


def _tag_names(source: Source, data: "datasets.Dataset", column: str) -> tuple[str, ...]:
    """Returns the names that a dataset gives to numbered tags, or ()."""
    names = getattr(getattr(data.features.get(column), "feature", None), "names", None)
    path = path_of(source) if isinstance(source, str) else Path()
    for file in [
        path,
        *(sorted(path.rglob("*.parquet")) if isinstance(source, str) and path.is_dir() else []),
    ]:
        if names is None and file.suffix == ".parquet":
            names = _parquet_tag_names(file, column)
    return tuple(names or ())


def _parquet_tag_names(path: Path, column: str) -> list[str] | None:
    """Returns the names that `datasets` wrote into a Parquet file about a column of lists."""
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_schema(path).metadata or {}
    try:
        kind = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        kind = kind[0] if isinstance(kind, list) else kind.get("feature", kind)
        names = kind["names"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _rows_of_lists(
    data: "datasets.Dataset", split: str, word_column: str, tag_column: str, names: Sequence[str]
) -> Iterator[Sentence]:
    rows = zip(column_of(data, word_column, split), column_of(data, tag_column, split), strict=True)
    for row, (words, tags) in enumerate(rows):
        where = f"row {row} of split {split!r}"
        for column, values in ((word_column, words), (tag_column, tags)):
            require(isinstance(values, list), f"{where} has {column} = {values!r:.80}; give a list")
        require(
            len(words) == len(tags),
            f"{where} has {len(words)} words and {len(tags)} tags; give one tag for each word",
        )
        odd = [word for word in words if not isinstance(word, str) or not word.strip()]
        require(not odd, f"{where} has the word {odd[:1]}; a word is a string that is not empty")
        if words:
            yield Sentence(words, [_tag(tag, names, where) for tag in tags])


def _tag(tag: object, names: Sequence[str], where: str) -> str:
    if isinstance(tag, int) and not isinstance(tag, bool) and names:
        require(0 <= tag < len(names), f"{where} has the tag {tag}, but {len(names)} have names")
        return names[tag]
    if isinstance(tag, str | int) and str(tag):
        return str(tag)
    raise InputError(f"{where} has the tag {tag!r}; a tag is a string or an integer")


def span_scheme(tags: Mapping[str, object] | Sequence[str]) -> str:
    """Returns how tags mark spans: "BIO" (also IOBES), "BILOU", or "" where they are no marks of spans.

    >>> span_scheme(["O", "B-PER", "I-PER"]), span_scheme(["NOUN", "VERB"])
    ('BIO', '')
    """
    marks = {tag.partition("-")[0] for tag in tags if tag != "O"}
    typed = all(tag == "O" or (tag[1:2] == "-" and len(tag) > 2) for tag in tags)
    if not typed or not marks or not marks & set("BSUI"):
        return ""
    if marks <= set("BIES"):
        return "BIO"
    return "BILOU" if marks <= set("BILU") else ""
