"""A tagger's batches: every word keeps its tag and its letters, wherever its sentence stands."""

import datasets
import numpy as np
import pytest

from rnn_jax.data.sentences import Sentence, read_tagged
from rnn_jax.data.tagged import NO_LETTER, Spelling, TagBatches, load_tagged, train_spelling
from rnn_jax.data.tokenizer import PAD, UNK, Tokenizer
from rnn_jax.errors import InputError

DATA = {"word_column": "", "tag_column": "", "validation_share": 0.2, "test_share": 0.2, "split_seed": 0}
TEXT = {"vocab_size": 1000, "lowercase": True, "letters": 6, "max_length": 8}
TAGS = ("A", "B", "C")


def made_up(count, seed=0):
    """Returns sentences of 1 to 11 words, each word with the tag that its first letter says."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        places = rng.integers(3, size=rng.integers(1, 12))
        words = [f"{'xyz'[place]}{number}w{n}" for n, place in enumerate(places)]
        rows.append(Sentence(words, [TAGS[place] for place in places]))
    return rows


def write(path, sentences):
    lines = ("".join(f"{w} {t}\n" for w, t in zip(*row, strict=True)) for row in sentences)
    path.write_text("\n".join(lines))
    return str(path)


def words_and_tags(batches, spelling, tag_names):
    """Returns the (spelled word, tag) pairs of every sentence of batches, in the order of the split."""
    rows = {}
    for batch in batches:
        assert (batch.token_ids[np.arange(batch.token_ids.shape[1]) >= batch.lengths[:, None]] == PAD).all()
        for place, row in enumerate(batch.rows[batch.rows >= 0]):
            assert row not in rows
            length = batch.lengths[place]
            assert not batch.letters[place, length:].any()
            read = [
                "".join(spelling.letters[n - 2] for n in word if n != NO_LETTER)
                for word in batch.letters[place, :length]
            ]
            rows[row] = [(w, tag_names[t]) for w, t in zip(read, batch.tags[place, :length], strict=True)]
    return [rows[row] for row in sorted(rows)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tagged") / "all.conll", made_up(40))


@pytest.fixture(scope="module")
def data(source):
    return load_tagged(DATA | {"source": source}, TEXT, batch_size=4, buckets=2)


def test_every_word_of_a_source_is_in_one_batch_with_its_own_tag(source, data):
    found = [
        pair
        for split in (data.train, data.validation, data.test)
        for row in words_and_tags(split.in_order(), data.spelling, data.tag_names)
        for pair in row
    ]
    expected = [
        (word if len(word) <= 6 else word[:3] + word[-3:], tag)
        for row in read_tagged(source).splits["train"]
        for word, tag in zip(*row, strict=True)
    ]
    assert sorted(found) == sorted(expected)
    assert data.train.predictions + data.validation.predictions + data.test.predictions == len(expected)


def test_an_epoch_has_every_sentence_once_and_is_a_function_of_seed_and_step(data):
    steps = data.train.steps_per_epoch
    epoch = [data.train(seed=1, step=step) for step in range(steps, 2 * steps)]
    assert words_and_tags(epoch, data.spelling, data.tag_names) == words_and_tags(
        data.train.in_order(), data.spelling, data.tag_names
    )
    again = data.train(seed=1, step=steps)
    for one, other in zip(epoch[0], again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_processes_share_the_rows_of_a_batch(data):
    rows = made_up(4)
    words, tags = [row.words[:8] for row in rows], [[0] * len(row.words[:8]) for row in rows]
    whole, *parts = (
        TagBatches(words, tags, data.spelling, (8,), 4, share)(seed=0, step=0)
        for share in (slice(None), slice(0, 2), slice(2, 4))
    )
    for fields in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(fields[0], np.concatenate(fields[1:]))


def test_sentences_that_are_too_long_come_in_pieces_that_lose_no_word(tmp_path):
    rows = [Sentence([f"w{n}" for n in range(20)], [TAGS[n % 3] for n in range(20)])] * 3 + made_up(9)
    data = load_tagged(DATA | {"source": write(tmp_path / "a.conll", rows)}, TEXT, batch_size=4, buckets=1)
    lengths = [int(n) for split in (data.train, data.validation, data.test) for n in split.plan.lengths]
    assert max(lengths) == 8
    assert sum(lengths) == sum(len(row.words) for row in rows)


def test_equal_sentences_are_cut_into_one_split(tmp_path):
    rows = made_up(12) * 2
    data = load_tagged(DATA | {"source": write(tmp_path / "a.conll", rows)}, TEXT, batch_size=4, buckets=1)
    splits = [
        {tuple(row) for row in words_and_tags(split.in_order(), data.spelling, data.tag_names)}
        for split in (data.train, data.validation, data.test)
    ]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


def test_words_are_looked_up_as_the_settings_say_and_letters_keep_their_case():
    spelling = train_spelling([["The", "the", "End"]], 100, lowercase=True, width=8)
    assert spelling.word_ids(["THE", "end", "film"]).tolist() == [2, 3, UNK]
    assert spelling.letters_of(["The"]).tolist() != spelling.letters_of(["the"]).tolist()
    cased = train_spelling([["The", "the", "End", "[PAD]"]], 100, lowercase=False, width=8)
    assert len(set(cased.word_ids(["The", "the", "THE"]).tolist())) == 3
    assert cased.word_ids(["[PAD]"]).tolist() == [UNK]  # a word that reads so is no padding


def test_the_most_frequent_words_are_kept_and_those_of_vectors_join_them():
    sentences = [["a", "b", "a"], ["c", "b", "a"]]
    spelling = train_spelling(sentences, 4, lowercase=True, width=8, more_words=["Film", "a"])
    assert spelling.tokenizer.words == ["[PAD]", "[UNK]", "a", "b", "film"]
    assert spelling.word_ids(["film", "c"]).tolist() == [4, UNK]


def test_long_words_keep_their_beginning_and_their_end():
    spelling = Spelling(Tokenizer.of_words([], lowercase=True), "abcdefgh", width=5)
    assert spelling.letters_of(["abcdefgh", "abcde"]).tolist() == [[2, 3, 4, 8, 9], [2, 3, 4, 5, 6]]
    assert spelling.letters_of(["xa", ""]).tolist() == [[1, 2, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_the_digest_tells_changed_tags_words_and_letters(tmp_path):
    rows = made_up(20)

    def digest(rows):
        settings = DATA | {"source": write(tmp_path / "a.conll", rows)}
        return load_tagged(settings, TEXT, batch_size=4, buckets=1).digest()

    changed = [
        [Sentence(rows[0].words, ["C"] * len(rows[0].words)), *rows[1:]],
        [Sentence(["new", *rows[0].words[1:]], rows[0].tags), *rows[1:]],
        [Sentence([rows[0].words[0].upper(), *rows[0].words[1:]], rows[0].tags), *rows[1:]],
    ]
    assert len({digest(each) for each in [rows, *changed]}) == 4
    assert digest(rows) == digest(rows)


def test_what_is_unusual_is_said(tmp_path):
    for name, rows in (("train", made_up(9)), ("dev", [Sentence(["q"], ["D"])]), ("test", made_up(2))):
        write(tmp_path / f"{name}.conll", rows)
    (tmp_path / "README").write_text("about")
    data = load_tagged(DATA | {"source": str(tmp_path)}, TEXT, batch_size=4, buckets=1)
    assert "passed over: README" in data.describe()
    assert "no sentence to train on has the tags D" in data.describe()
    assert "100.0% of validation outside it" in data.describe()


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (made_up(1), {}, "1 sentences, too few"),
        ([Sentence([f"a{n}"], ["A"]) for n in range(9)], {}, "a tagger needs two"),
        (made_up(9), {"validation_share": 1.0}, "validation_share is 1.0; it must be between 0 and 1"),
    ],
)
def test_too_little_data_is_refused(tmp_path, rows, changes, message):
    with pytest.raises(InputError, match=message):
        load_tagged(DATA | {"source": write(tmp_path / "a.conll", rows)} | changes, TEXT, 4, 1)


def test_a_source_without_a_training_split_is_refused(tmp_path):
    write(tmp_path / "dev.conll", made_up(9))
    with pytest.raises(InputError, match="no split 'train', but validation"):
        load_tagged(DATA | {"source": str(tmp_path)}, TEXT, 4, 1)


def test_a_table_in_memory_keeps_its_numbered_tags_and_needs_no_test_split():
    names = ["O", "B-x", "A"]  # as the dataset lists them, one of them unused
    numbers = [[index % 2] * (1 + index % 3) for index in range(20)]
    words = [[f"w{index}"] * len(row) for index, row in enumerate(numbers)]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    table = datasets.Dataset.from_dict({"tokens": words, "ner_tags": numbers}, features=features)
    data = load_tagged(DATA | {"source": {"train": table}, "test_share": 0.0}, TEXT, 4, 1)
    assert data.tag_names == tuple(names)
    assert not data.tested
    assert data.test is data.validation
    assert len(data.test_sentences) == len(data.validation.forms) == 4
    assert "no test, so that validation is measured" in data.describe()
    assert data.train.predictions + data.validation.predictions == sum(map(len, numbers))
