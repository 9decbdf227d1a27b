"""Folders as splits: of tables, of texts in folders of classes, or as `datasets` saved them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_jax.data.reading import Reading, refuse_unused, text_of
from rnn_jax.data.tables import TABLE_FORMATS, alike, format_of, joined_tables, read_table, settings_of
from rnn_jax.errors import InputError, require
from rnn_jax.files import unreadable

if TYPE_CHECKING:
    import datasets
    import pyarrow

HELD_OUT = ("validation", "test")
# The split that the name of a file or folder tells, by the rules of `datasets`, which drops all others.
SPLIT_NAME = re.compile(
    r"(?<![^-._ 0-9])(?:(?P<train>train|training)|(?P<validation>validation|valid|val|dev)"
    r"|(?P<test>test|testing|eval|evaluation))(?![^-._ 0-9])"
)
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"  # what `datasets.save_to_disk` writes beside rows
# Files of JSON that stand beside data, and describe it.
BESIDE = ("config.json", "dataset_info.json", "dataset_infos.json", "metadata.json", "package.json", SAVED)
UNLABELLED_FOLDERS = ("unsup", "unsupervised", "unlabelled", "unlabeled")
SHOWN = 5  # files passed over that a line names


def read_folder(source: str, folder: Path, reading: Reading) -> "dict[str, datasets.Dataset]":
    """Returns the splits in a folder; the names of its files or folders name them.

    Raises:
      InputError: it holds no files of data, files of several kinds, or one that cannot be read.
    """
    if (folder / SAVED_SPLITS).is_file() or (folder / SAVED).is_file():
        refuse_unused(reading, repr(source), ())
        return _load_saved(folder)
    files, others = _data_files(folder)
    if not files and (classes := _class_folders(folder)):
        refuse_unused(reading, repr(source), ("encoding",))
        return _read_classes(source, folder, classes, reading)
    suffixes = sorted({format_of(file).removeprefix(".") for file in files})
    require(
        len({TABLE_FORMATS[format_of(file)] for file in files}) == 1,
        f"folder {source!r} must hold files of one kind of {', '.join(TABLE_FORMATS)}, or folders of classes "
        f"with a .txt file for each text; it has {suffixes}",
    )
    refuse_unused(reading, repr(source), settings_of(format_of(files[0])))
    _say_passed_over(source, folder, others, reading)
    read = alike([read_table(file, reading) for file in files])
    tables: dict[str, list[pyarrow.Table]] = {}
    for name, table in zip(_split_names([file.relative_to(folder) for file in files]), read, strict=True):
        tables.setdefault(name, []).append(table)
    usual = [name for name in ("train", *HELD_OUT) if name in tables]
    # Others have types of their own: unlabelled texts need not have the columns of labelled ones.
    return {
        name: joined_tables(tables[name], tables[usual[0] if name in usual else name][0], source)
        for name in dict.fromkeys([*usual, *tables])
    }


def _load_saved(folder: Path) -> "dict[str, datasets.Dataset]":
    """Returns what `save_to_disk` of `datasets` wrote: one dataset, as the split "train", or several."""
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, datasets.DatasetDict):
            return {str(name): data for name, data in saved.items()}
        return {"train": saved}
    except Exception as error:  # datasets raises a different class for each damage
        raise unreadable(folder, error) from error


def _visible(folder: Path) -> list[Path]:
    """Returns the files in a folder, but not those of hidden folders, such as a download's cache."""
    return [
        file
        for file in sorted(folder.rglob("*"))
        if not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts) and file.is_file()
    ]


def _data_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the files of known formats, and the others, those of JSON beside the data among them."""
    visible = _visible(folder)
    files = [file for file in visible if format_of(file) and file.name.lower() not in BESIDE]
    if any(format_of(file) != ".json" for file in files):
        files = [file for file in files if format_of(file) != ".json" or SPLIT_NAME.search(file.stem.lower())]
    return files, [file for file in visible if file not in set(files)]


def _say_passed_over(source: str, folder: Path, others: list[Path], reading: Reading) -> None:
    if others:
        names = ", ".join(str(file.relative_to(folder)) for file in others[:SHOWN])
        more = f" and {len(others) - SHOWN:,} more" if len(others) > SHOWN else ""
        reading.say(f"{source}: passed over, beside the data: {names}{more}")


def _class_folders(folder: Path) -> list[Path]:
    """Returns the folders of .txt files that are named after classes: they hold no such folders."""
    holders = {file.parent for file in _visible(folder) if file.suffix.lower() == ".txt"} - {folder}
    above = {parent for holder in holders for parent in holder.parents}
    return sorted(holder for holder in holders - above if not SPLIT_NAME.fullmatch(holder.name.lower()))


def _read_classes(
    source: str, folder: Path, classes: list[Path], reading: Reading
) -> "dict[str, datasets.Dataset]":
    """Returns texts, one a file, with the names of their folders as labels; split by the folders above."""
    import pyarrow

    rows: dict[str, tuple[list[str], list[str]]] = {}
    taken = set()
    for holder in classes:
        unlabelled = holder.name.lower() in UNLABELLED_FOLDERS
        (split,) = _split_names([holder.relative_to(folder) / "texts"])
        texts, labels = rows.setdefault(holder.name if unlabelled else split, ([], []))
        for file in sorted(holder.glob("*")):
            if file.suffix.lower() == ".txt" and file.is_file():
                taken.add(file)
                texts.append(_text(file, reading))
                labels.extend([] if unlabelled else [holder.name])
    _say_passed_over(source, folder, [file for file in _visible(folder) if file not in taken], reading)
    tables = {
        name: pyarrow.table({"text": texts, **({"label": labels} if labels else {})})
        for name, (texts, labels) in rows.items()
    }
    ordered = [name for name in ("train", *HELD_OUT) if name in tables]
    return {
        name: joined_tables([tables[name]], tables[name], source)
        for name in dict.fromkeys([*ordered, *tables])
    }


def _text(file: Path, reading: Reading) -> str:
    try:
        return text_of(file, reading)
    except OSError as error:
        raise InputError(f"could not read {str(file)!r}: {error}") from error


def _split_names(paths: list[Path]) -> list[str]:
    """Returns the name of each file's split, from its folders and then its own name.

    >>> _split_names([Path("data/train-00000-of-00001.csv"), Path("data/extra.csv"), Path("dev/a.csv")])
    ['train', 'extra', 'validation']
    """
    parts = [(*path.parts[:-1], SHARD.sub("", path.stem)) for path in paths]
    known: dict[tuple[str, ...], str] = {}
    places = set()  # folders whose files or folders are named after splits
    for names in parts:
        matches = [SPLIT_NAME.search(name.lower()) for name in names]
        depth, match = next(((depth, match) for depth, match in enumerate(matches) if match), (0, None))
        if match:
            known[names] = str(match.lastgroup)
            places.add(names[:depth])
    if not known:
        return ["train"] * len(paths)
    return [known.get(names) or _own_name(names, places) for names in parts]


def _own_name(parts: tuple[str, ...], places: set[tuple[str, ...]]) -> str:
    """Returns the name that stands where others beside it have the name of a split, else the file's."""
    depths = (depth for depth in reversed(range(len(parts))) if parts[:depth] in places)
    return parts[next(depths, -1)]
