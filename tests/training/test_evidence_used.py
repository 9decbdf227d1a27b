"""Evidence of n-grams in a run and in all that uses one: the same numbers wherever a text is read."""

import copy
import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
import train_loop
from rnn_jax.checkpoints.workdir import EVIDENCE
from rnn_jax.data.evidence import Evidence, fit_evidence
from rnn_jax.data.targets import LABELS
from rnn_jax.data.tokenizer import Tokenizer
from rnn_jax.errors import InputError
from rnn_jax.inference.export import export_classifier
from rnn_jax.layers.rnn import RNN
from rnn_jax.models.classifier import TextClassifier
from rnn_jax.serving.answers import Answers
from rnn_jax.training import loop
from rnn_jax.training.loop import check_config
from tests.helpers.cut import assert_same_run, train_until_killed
from tests.helpers.jobs import tiny_config, write_reviews
from tests.helpers.predictors import make_predictor
from tests.inference.test_export import load as load_export

TEXTS = ["a fine film", "great and moving, what a film", "dull", "", "the plot was awful " * 15, "zyzzyva"]
KNOWN = [
    "a fine moving film",
    "an awful dull plot",
    "what a great film",
    "the plot was awful",
    "great and moving",
]
ORDERS = (1, 2, 3)


def with_evidence(source, **changes):
    config = tiny_config(source, text__max_length=24, model__cell="gru", model__pooling="concat", **changes)
    config.embedding.evidence.orders = ORDERS
    config.batch.buckets = 2
    return config


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.jsonl", 120)


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    """The config and the folder of a run, which an adversary and word dropout trained."""
    workdir = tmp_path_factory.mktemp("evidence") / "run"
    config = with_evidence(source, train__adversarial=1.0, model__word_dropout=0.1)
    train_loop.train_and_evaluate(config, workdir)
    return config, workdir


@pytest.fixture(scope="module")
def predictor():
    """A predictor that knows the n-grams of a few texts; its parameters are random."""
    tokenizer = Tokenizer.train(KNOWN, vocab_size=50, lowercase=True, strip_html=True)
    rows, targets = tokenizer.encode(KNOWN), np.arange(len(KNOWN))[:, None] % 2
    settings = {"orders": ORDERS, "folds": 2, "smoothing": 1.0, "min_count": 1}
    evidence, _ = fit_evidence(rows, rows, targets, tokenizer.vocab_size, **settings)
    return make_predictor(tokenizer=tokenizer, evidence=evidence, pooling="concat")


@pytest.fixture(scope="module")
def said(predictor):
    return predictor.predict(TEXTS).probabilities


def test_a_network_reads_the_ngrams_and_asks_for_them(predictor, said):
    kernel = predictor.params["encoder"]["cell"]["in"]["kernel"]
    assert kernel.shape[0] == predictor.config.model.embedding_dim + len(ORDERS)
    with pytest.raises(InputError, match="reads 3 features of evidence"):
        predictor.apply_fn({"params": predictor.params}, np.ones((1, 6), np.int32))
    blank = [table._replace(ratios=0 * table.ratios) for table in predictor.evidence.tables]
    other = copy.copy(predictor)
    other.evidence = Evidence(predictor.evidence.vocab_size, tuple(blank))
    assert np.abs(other.predict(TEXTS).probabilities - said).max() > 1e-2


def test_texts_are_predicted_alone_as_in_a_batch(predictor, said):
    alone = [predictor.predict([text]).probabilities[0] for text in TEXTS]
    np.testing.assert_allclose(alone, said, atol=1e-6)


@pytest.mark.slow
def test_a_saved_a_pickled_and_an_exported_model_say_the_same(predictor, said, tmp_path):
    predictor.save(tmp_path / "saved")
    np.testing.assert_array_equal(rnn_jax.load(tmp_path / "saved").predict(TEXTS).probabilities, said)
    predictor.save(tmp_path / "saved")  # over itself
    again = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(again.predict(TEXTS).probabilities, said)
    export_classifier(predictor, tmp_path / "export.zip")
    np.testing.assert_allclose(load_export(tmp_path / "export.zip")(TEXTS)[1], said, atol=1e-5)
    answers = Answers(predictor)
    answers.compile()
    shares = [list(answer["probabilities"].values()) for answer in answers.predict(TEXTS)]
    np.testing.assert_allclose(shares, said, atol=1e-4)


def test_a_stream_reads_as_a_batch_does_wherever_the_text_is_cut(predictor, said):
    whole = [text for text in TEXTS if len(text) < 40]
    expected = dict(zip(TEXTS, said, strict=True))
    for text in whole:
        for pieces in ([text], text.split(" ")):
            stream = predictor.stream()
            for piece in pieces:
                stream.feed(f"{piece} ")
            np.testing.assert_allclose(stream.probabilities, expected[text], atol=1e-5)


def test_attributions_sum_to_what_words_and_evidence_add(predictor):
    found = predictor.attribute(TEXTS[1], steps=128)
    assert len(found.scores) == len(found.words) == 7
    assert abs(found.scores.sum() - (found.value - found.baseline)) < 2e-3
    assert abs(found.value - found.baseline) > 0.01
    (ids,) = predictor.tokenizer.encode([TEXTS[1]])
    variables, words = {"params": predictor.params}, jnp.zeros((1, len(ids), 5 + len(ORDERS)))
    logit = predictor.model.apply(variables, words, method="classify")[0, 0]
    assert abs(found.baseline - float(logit if found.label == predictor.label_names[1] else -logit)) < 1e-5
    assert predictor.evidence.features(ids).any()


@pytest.mark.slow
def test_a_lost_or_damaged_file_is_said(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run[1], folder)
    content = bytearray((folder / EVIDENCE).read_bytes())
    content[-3] ^= 64
    (folder / EVIDENCE).write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        rnn_jax.load(folder)
    (folder / EVIDENCE).unlink()
    with pytest.raises(InputError, match=EVIDENCE):
        rnn_jax.load(folder)


def test_training_batches_do_not_tell_a_text_its_label(source, tmp_path):
    """The wiring of the run: with the table of all texts in place of the folds' this fails."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    before = loop.prepare_data(with_evidence(source))
    # Two neighbours within a fold exchange their labels, so that the texts of each fold stay the same.
    texts, labels = before.corpus.train
    place = next(n for n in range(len(texts) // 10, len(texts)) if labels[n] != labels[n + 1])
    text, other = texts[place], texts[place + 1]
    for row in rows:
        row["label"] = 1 - row["label"] if row["text"] in (text, other) else row["label"]
    changed = tmp_path / "changed.jsonl"
    changed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    after = loop.prepare_data(with_evidence(changed))
    assert sorted(before.corpus.train.texts) == sorted(after.corpus.train.texts)
    own = []
    for data in (before, after):
        place = data.corpus.train.texts.index(text)
        (found,) = [
            batch.evidence[batch.rows == place] for batch in data.train.in_order() if place in batch.rows
        ]
        own.append(found[0] / (np.abs(found[0]).max(axis=0) + 1e-9))  # up to a scale that all texts share
    assert (before.corpus.train.labels != after.corpus.train.labels).sum() == 2
    assert (own[0] != 0).sum() > 20
    np.testing.assert_allclose(*own, rtol=1e-4)


def test_a_perturbation_and_embedding_dropout_touch_words_alone_and_word_dropout_both():
    model = TextClassifier(9, 3, 2, RNN(rnn_jax.GRUCell(4)), evidence=2)
    ids, evidence = jnp.array([[4, 5, 6, 7]]), jnp.arange(1.0, 9.0).reshape(1, 4, 2)
    variables = model.init(jax.random.key(0), ids)
    x = model.apply(variables, ids, evidence=evidence, method="embed")
    spread = np.asarray(variables["params"]["embedding"]["embedding"]).std()
    np.testing.assert_allclose(x[..., 3:], evidence * spread, rtol=1e-5)
    change = jax.random.normal(jax.random.key(1), (1, 4, 3))
    moved = model.apply(variables, ids, perturbation=change, evidence=evidence)
    by_hand = x.at[..., :3].add(change)
    np.testing.assert_allclose(moved, model.apply(variables, by_hand, method="classify"), rtol=1e-6)

    def embedded(**rates):
        rngs = {"dropout": jax.random.key(2)}
        return model.clone(**rates).apply(variables, ids, False, evidence, rngs=rngs, method="embed")

    np.testing.assert_array_equal(embedded(embedding_dropout=0.9)[..., 3:], x[..., 3:])
    gone = np.asarray(embedded(word_dropout=0.5) == 0).all(axis=-1)[0]
    assert 0 < gone.sum() < 4
    np.testing.assert_allclose(embedded(word_dropout=0.5)[0, ~gone], 2 * x[0, ~gone], rtol=1e-6)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(run, tmp_path):
    config, workdir = run
    train_until_killed(config, tmp_path / "cut", 1)
    results = train_loop.train_and_evaluate(config, tmp_path / "cut")
    assert results["resumed_at"] > 0
    assert_same_run(workdir, tmp_path / "cut", results["steps"])
    assert (workdir / EVIDENCE).read_bytes() == (tmp_path / "cut" / EVIDENCE).read_bytes()


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_counts_of_ngrams(tmp_path):
    """What is counted may stand where the network does not read, so that its batches are the same."""
    reviews = write_reviews(tmp_path / "reviews.jsonl", 40)
    words = write_reviews(tmp_path / "words.jsonl", 40)
    config = with_evidence(reviews, text__truncate="head", text__vocabulary_source=str(words))
    config.text.max_length = 4
    train_until_killed(config, tmp_path / "run", 1)
    before, kept = reviews.read_text(), (tmp_path / "run" / EVIDENCE).read_bytes()
    rows = [json.loads(line) for line in before.splitlines()]
    longer = [row | {"text": row["text"] + " who meet" * row["label"]} for row in rows]
    reviews.write_text("".join(json.dumps(row) + "\n" for row in longer))
    with pytest.raises(InputError, match="began with other data: its n-grams are others"):
        train_loop.train_and_evaluate(config, tmp_path / "run")
    assert (tmp_path / "run" / EVIDENCE).read_bytes() == kept
    reviews.write_text(before)
    (tmp_path / "run" / EVIDENCE).write_bytes(kept[:-9])  # damaged: it is written anew
    assert train_loop.train_and_evaluate(config, tmp_path / "run")["resumed_at"] > 0
    assert (tmp_path / "run" / EVIDENCE).read_bytes() == kept


@pytest.mark.slow
@pytest.mark.parametrize("labels", [(0, 1, 2), LABELS])
def test_several_classes_and_several_labels_have_a_ratio_each(tmp_path, labels):
    path = write_reviews(tmp_path / "reviews.jsonl", 90, (0, 1, 2))
    config = with_evidence(path)
    if labels == LABELS:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        lists = [[["a"], ["b"], ["a", "c"]][row["label"]] for row in rows]
        path.write_text(
            "".join(json.dumps({**r, "label": o}) + "\n" for r, o in zip(rows, lists, strict=True))
        )
        config.data.target = LABELS
    train_loop.train_and_evaluate(config, tmp_path / "run")
    predictor = rnn_jax.load(tmp_path / "run")
    assert predictor.evidence.width == 3 * len(ORDERS)
    alone = [predictor.predict_proba([text])[0] for text in TEXTS]
    np.testing.assert_allclose(alone, predictor.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.slow
def test_a_run_saved_before_the_setting_is_one_without_evidence(tmp_path, source):
    config = tiny_config(source, train__epochs=1)
    train_loop.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run" / EVIDENCE).exists()
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    del saved["embedding"]["evidence"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    assert rnn_jax.load(tmp_path / "run").evidence is None
    assert train_loop.train_and_evaluate(config, tmp_path / "run")["steps"] > 0  # the finished run's


def test_of_bytes_there_are_258_whatever_the_vocabulary_may_have(source):
    config = with_evidence(source)
    config.text.update({"tokenizer": "bytes", "vocab_size": 10_000})
    config.embedding.evidence.orders = (3, 7)
    check_config(config)
    config.embedding.evidence.orders = (3, 8)
    with pytest.raises(InputError, match=r"has 8, too long for text\.vocab_size 258"):
        check_config(config)
    config.embedding.evidence.orders, config.text.fill_vocabulary = (3, 5), True
    with pytest.raises(InputError, match=r"has 5, too long for text\.vocab_size 10,000"):
        check_config(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.target": "number"}, "counts the texts of each class"),
        ({"data.pair_column": "other"}, "a label of a pair"),
        ({"train.row_sparse": True}, "scale of evidence"),
        ({"embedding.evidence.folds": 1}, "folds is 1"),
        ({"embedding.evidence.smoothing": 0.0}, "smoothing is 0"),
        ({"embedding.evidence.min_count": 0}, "min_count is 0"),
        ({"embedding.evidence.orders": (3, 1)}, "lengths of n-grams that rise"),
        ({"embedding.evidence.orders": (9,)}, "too long for text.vocab_size"),
    ],
)
def test_what_evidence_cannot_be_used_with_is_refused_with_the_reason(source, changes, message):
    config = with_evidence(source)
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=message):
        check_config(config)
