"""Soft labels: what is read, what is left out, and what a network is trained on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.data.batches import Batch
from rnn_jax.data.evidence import fit_evidence
from rnn_jax.data.pipeline import load_data
from rnn_jax.data.reading import Reading
from rnn_jax.data.soft_labels import kept_soft_labels, probabilities_of, read_soft_labels
from rnn_jax.errors import InputError
from rnn_jax.models.losses import batch_metrics

NAMES = ("bad", "good")
TEXT = {
    "vocab_size": 60,
    "lowercase": True,
    "strip_html": True,
    "vocabulary_source": "",
    "max_length": 8,
    "train_length": 0,
    "truncate": "tail",
    "fill_vocabulary": False,
}
LABELLED = [(f"film {n} is {NAMES[n % 2]} {NAMES[n % 2]}", NAMES[n % 2]) for n in range(20)]
SOFT = [(f"this {n} was so so", {"bad": 0.25, "good": 0.75}) for n in range(6)]


@pytest.fixture
def folder(tmp_path):
    """A folder of labelled texts, with a test split."""
    for split, rows in (
        ("train", LABELLED),
        ("test", [("held out, good", "good"), ("held out, bad", "bad")]),
    ):
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    return tmp_path


def soft_file(path, rows):
    path.write_text("\n".join(json.dumps({"text": text, "probabilities": of}) for text, of in rows))
    return str(path)


def data_of(folder, soft, orders=(), **text):
    corpus = {
        "source": str(folder),
        "text_column": "text",
        "label_column": "label",
        "label_names": (),
        "validation_share": 0.2,
        "test_share": 0.1,
        "split_seed": 0,
        "soft_labels": soft,
    }
    evidence = {"orders": orders, "folds": 2, "smoothing": 1.0, "min_count": 1}
    cache = folder.parent / "cache"
    return load_data(corpus, {**TEXT, **text}, batch_size=4, buckets=1, cache=cache, evidence=evidence)


def batches_by_text(data):
    """Returns the labels and the evidence of each text to train on, by its words."""
    found = {}
    for batch in data.train.in_order():
        for row in np.flatnonzero(batch.weights):
            ids = batch.token_ids[row][: batch.lengths[row]]
            words = " ".join(data.tokenizer.words[i] for i in ids)
            found[words] = (batch.labels[row], batch.evidence[row] if len(batch.evidence) else None)
    return found


def test_texts_with_soft_labels_are_trained_on_and_no_others_change(folder, tmp_path):
    with_soft = data_of(folder, soft_file(tmp_path / "soft.json", SOFT))
    without = data_of(folder, "")
    assert with_soft.train.predictions == without.train.predictions + len(SOFT)
    found = batches_by_text(with_soft)
    for text, _ in SOFT:
        np.testing.assert_array_equal(found[text][0], np.float32([0.25, 0.75]))
    for text, label in zip(without.corpus.train.texts, without.corpus.train.labels, strict=True):
        np.testing.assert_array_equal(found[text][0], np.eye(2)[label])
    for split in ("validation", "test"):
        ours, theirs = getattr(with_soft, split), getattr(without, split)
        assert ours.predictions == theirs.predictions
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_texts_that_are_labelled_held_out_or_empty_are_left_out(folder, tmp_path):
    known = [(LABELLED[0][0], {"good": 1.0}), ("Held  OUT, good", {"bad": 1.0}), ("  ", {"bad": 1.0})]
    data = data_of(folder, soft_file(tmp_path / "soft.json", [*SOFT, *known]))
    assert [text for text in data.corpus.soft.texts] == [text for text, _ in SOFT]
    assert any("6 texts; 3 that are empty or in a split" in note for note in data.notes)
    with pytest.raises(InputError, match="no text that is in no split"):
        data_of(folder, soft_file(tmp_path / "known.json", known))


def test_the_evidence_counts_soft_labels_by_their_probabilities(folder, tmp_path):
    said = [("novel word is good", {"good": 0.75, "bad": 0.25}), ("novel", {"good": 0.25, "bad": 0.75})]
    data = data_of(folder, soft_file(tmp_path / "soft.json", said), orders=(1,))
    read = [*data.corpus.train.texts, *(text for text, _ in said)]
    good = [*(data.corpus.train.labels == 1).astype(float), 0.75, 0.25]
    having = {}
    for text, p in zip(read, good, strict=True):
        for word in {*data.tokenizer.words_of([text])[0]}:
            counts = having.setdefault(word, [1.0, 1.0])
            counts[0], counts[1] = counts[0] + p, counts[1] + 1 - p
    totals = np.sum([*having.values()], axis=0)
    words = ("novel", "good", "bad", "is", "film")
    ours = data.evidence.features(data.tokenizer.encode([" ".join(words)])[0])[:, 0]
    plain = [float(np.subtract(*np.log(having[word] / totals))) for word in words]
    np.testing.assert_allclose(ours / ours[1], np.array(plain) / plain[1], rtol=1e-4)


def test_a_soft_label_is_not_seen_by_its_own_text(folder, tmp_path):
    def evidence(p):
        said = [(f"novel{n}", {"good": 0.5, "bad": 0.5}) for n in range(6)]
        said[2] = ("novel2", {"good": p, "bad": 1 - p})
        data = data_of(folder, soft_file(tmp_path / f"soft-{p}.json", said), orders=(1,))
        found = batches_by_text(data)
        return found["novel2"][1], data.evidence.features(data.tokenizer.encode(["novel2"])[0])

    (own_low, whole_low), (own_high, whole_high) = evidence(0.1), evidence(0.4)
    assert own_low[0, 0] == own_high[0, 0] == 0, "no other text has the word"
    assert whole_low[0, 0] != whole_high[0, 0], "a new text that has it reads the label"


def test_labelled_and_soft_texts_both_have_their_share_of_each_fold():
    rows = [np.array([n + 2]) for n in range(40)]
    targets = np.array([n % 2 for n in range(10)] + [0.3, 0.7] * 15)[:, None]
    settings = {"orders": (1,), "folds": 5, "smoothing": 1.0, "min_count": 1}
    _, found = fit_evidence(rows, rows, targets, 50, **settings, labelled=10)
    for part, size in ((found.chosen[:10], 2), (found.chosen[10:], 6)):
        assert np.bincount(part, minlength=5).tolist() == [size] * 5


def test_the_loss_is_the_expected_loss_of_the_labels_drawn():
    rng = np.random.default_rng(3)
    logits, q = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32), rng.dirichlet(np.ones(3), 5)
    ones = np.array([1, 1, 0, 1, 1], np.float32)

    def loss(labels, **options):
        batch = Batch(np.zeros((5, 1), np.int32), np.ones(5, np.int32), labels, ones, np.arange(5))
        return np.asarray(batch_metrics(logits, batch, **options).loss)

    log_p = np.asarray(jax.nn.log_softmax(logits))
    plain = -(q * log_p).sum(axis=1) @ ones
    np.testing.assert_allclose(loss(q.astype(np.float32)), plain, rtol=1e-5)
    certain = rng.integers(0, 3, 5)
    for options in ({}, {"smoothing": 0.2}, {"class_weights": (1.0, 2.0, 0.5)}):
        hard, soft = certain.astype(np.int32), np.eye(3, dtype=np.float32)[certain]
        np.testing.assert_allclose(loss(soft, **options), loss(hard, **options), rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"bad": 0.5', "give an object"),
        (None, "give an object"),
        ({"bad": 0.5, "great": 0.5}, r"of \['great'\]; the labels are \['bad', 'good'\]"),
        ({"bad": 0.5, "good": 0.6}, "add up to 1"),
        ({"bad": 1.5, "good": -0.5}, "from 0 to 1"),
        ({"bad": float("nan"), "good": 1.0}, "from 0 to 1"),
        ({"bad": "0.5", "good": 0.5}, "from 0 to 1"),
    ],
)
def test_what_are_no_probabilities_is_refused(value, message):
    with pytest.raises(InputError, match=f"row 7 has probabilities.*{message}"):
        probabilities_of(value, NAMES, "row 7")


def test_an_error_names_the_row(tmp_path):
    path = soft_file(tmp_path / "soft.jsonl", [*SOFT, ("a film", {"bad": 2.0})])
    with pytest.raises(InputError, match=r"row 6 of split 'train' of .*soft\.jsonl"):
        read_soft_labels(path, NAMES, Reading("text"))


def test_a_file_in_another_encoding_has_a_cure_that_reaches_it(tmp_path):
    (tmp_path / "soft.csv").write_bytes("text,probabilities\nun été à la plage,{}\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"data\.soft_labels: .*soft\.csv.*: save it as UTF-8$") as error:
        read_soft_labels(str(tmp_path / "soft.csv"), NAMES, Reading("text"))
    assert "data.encoding" not in str(error.value)


def test_a_file_that_is_not_there_is_named_with_its_setting(tmp_path):
    with pytest.raises(InputError, match=r"data\.soft_labels: '.*nowhere\.csv' is not there"):
        read_soft_labels(str(tmp_path / "nowhere.csv"), NAMES, Reading("text"))


@pytest.mark.parametrize("kind", [bool, np.int64, str])
def test_soft_labels_may_be_named_by_the_labels_themselves(tmp_path, kind):
    labels = kind(0), kind(1)
    path = kept_soft_labels(tmp_path, (["a film"], [dict(zip(labels, (0.25, 0.75), strict=True))]))
    read = read_soft_labels(str(path), tuple(map(str, labels)), Reading("text"))
    assert read[1].tolist() == [[0.25, 0.75]]


def test_soft_labels_of_a_program_are_kept_and_read_again(tmp_path):
    texts, rows = zip(*SOFT, strict=True)
    path = kept_soft_labels(
        tmp_path / "cache", (texts, [{n: np.float32(p) for n, p in r.items()} for r in rows])
    )
    assert kept_soft_labels(tmp_path / "cache", (list(texts), list(rows))) == path
    read, probabilities = read_soft_labels(str(path), NAMES, Reading("text"))
    assert (tuple(read), probabilities.tolist()) == (texts, [[0.25, 0.75]] * len(SOFT))
    for odd in (5, (texts, rows[1:]), (texts, [0.5] * len(texts))):
        with pytest.raises(InputError, match=r"a pair \(texts, probabilities\)"):
            kept_soft_labels(tmp_path / "cache", odd)
