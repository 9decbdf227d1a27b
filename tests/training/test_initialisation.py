"""Where training starts: word vectors and earlier runs, row by row and path by path."""

import json
import shutil
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rnn_jax.checkpoints.checkpoints import Checkpoints
from rnn_jax.checkpoints.restore import best_params
from rnn_jax.data.tokenizer import SPECIAL_WORDS, Tokenizer
from rnn_jax.errors import InputError
from rnn_jax.models.classifier import build_classifier
from rnn_jax.training.initialisation import (
    WORD2VEC,
    Start,
    remapped,
    start_from,
    trained_vectors,
    transferred,
    with_vectors,
)
from rnn_jax.training.steps import init_params
from tests.helpers.runs import TEXTS, State, make_language_run, make_run, make_tagger_run
from tests.training.test_parameter_groups import same

SETTINGS = {
    "embedding_dim": 5,
    "cell": "gru",
    "hidden": 4,
    "layers": 1,
    "bidirectional": False,
    "merge": "concat",
    "residual": False,
    "layer_norm": False,
    "pooling": "concat",
    "word_dropout": 0.0,
    "embedding_dropout": 0.0,
    "recurrent_dropout": 0.0,
    "layer_dropout": 0.0,
    "dropout": 0.0,
    "dtype": "float32",
}
EMBEDDING = {"vectors": "", "missing": "zeros", "scale": 0.0, "epochs": 2, "from_workdir": "", "take": ()}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The folder of a run that no test changes."""
    workdir = tmp_path_factory.mktemp("classifier") / "old"
    make_run(workdir)
    return workdir


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """The folder of a run that no test changes."""
    workdir = tmp_path_factory.mktemp("language_model") / "forward"
    make_language_run(workdir, cell="gru")
    return workdir


def tokenizer_of(texts):
    return Tokenizer.train(texts, vocab_size=50, lowercase=True, strip_html=True)


@cache
def drawn(words, **changes):
    model = build_classifier(words, 2, **(SETTINGS | changes))
    return jax.tree.map(np.asarray, jax.jit(partial(init_params, model))(jax.random.key(9)))


def params_of(tokenizer, **changes):
    return jax.tree.map(jnp.array, drawn(tokenizer.vocab_size, **changes))


def started(params, tokenizer, cache, **changes):
    uses = np.ones(tokenizer.vocab_size, int)
    said = []
    start = Start(**(EMBEDDING | changes))
    start.check()
    return start_from(start, params, tokenizer, uses, lambda: TEXTS, said.append, 0, cache), said


def test_each_word_takes_its_row_and_an_unseen_one_the_mean_of_the_words():
    table = np.array([[9, 9], [7, 7], [1, 2], [3, 4], [5, 6]], np.float32)
    old, new = [*SPECIAL_WORDS, "a", "b", "c"], [*SPECIAL_WORDS, "c", "new", "a"]
    moved, known = remapped(table, old, new)
    assert moved.tolist() == [[9, 9], [7, 7], [5, 6], [3, 4], [1, 2]]
    assert known == 2


@pytest.mark.slow
def test_an_embedding_moves_to_another_network_and_vocabulary(tmp_path):
    source = make_run(tmp_path / "old")[2]  # the best
    tokenizer = tokenizer_of(["great new words", "dull film film"])
    params = params_of(tokenizer, cell="lstm", bidirectional=True)
    moved, lines = transferred(params, tokenizer.words, tmp_path / "old", ["embedding"])
    old = Tokenizer.load(tmp_path / "old" / "tokenizer.json").words
    table = source["embedding"]["embedding"]
    for row, word in enumerate(tokenizer.words):
        expected = table[old.index(word)] if word in old else table[2:].mean(axis=0)
        np.testing.assert_allclose(moved["embedding"]["embedding"][row], expected, rtol=1e-6)
    assert same(moved["head"]["kernel"], params["head"]["kernel"])
    assert lines == ["taken: embedding/embedding, 3 of 5 words known"]


@pytest.mark.slow
def test_an_encoder_moves_where_paths_and_shapes_agree_and_the_rest_is_told(tmp_path):
    source = make_run(tmp_path / "old")[2]
    tokenizer = tokenizer_of(TEXTS)
    whole, lines = transferred(params_of(tokenizer), tokenizer.words, tmp_path / "old", ["*"])
    assert all(map(same, jax.tree.leaves(whole), jax.tree.leaves(source)))
    assert all(line.startswith("taken: ") for line in lines)
    _, lines = transferred(params_of(tokenizer, hidden=6), tokenizer.words, tmp_path / "old", ["encoder"])
    assert all(line.startswith("not taken, (") for line in lines)
    assert not any(line.startswith("taken") for line in lines)
    _, lines = transferred(
        params_of(tokenizer, bidirectional=True), tokenizer.words, tmp_path / "old", ["encoder"]
    )
    assert all(line.startswith("not taken, no such parameter here: encoder/cell/") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"take": ["embeding"]}, r"embedding.take has the pattern 'embeding', which matches no"),
        (
            {"from_workdir": "nowhere"},
            r"config.embedding.from_workdir is 'nowhere', which is not the folder of a run",
        ),
        ({"width": 6}, r"vectors have 5 dimensions but config.model.embedding_dim is 6; set it to 5"),
    ],
)
def test_what_cannot_be_taken_is_refused(tmp_path, classifier, changes, message):
    tokenizer = tokenizer_of(TEXTS)
    params = params_of(tokenizer, embedding_dim=changes.pop("width", 5))
    options = {"from_workdir": str(classifier), "take": ["embedding"]} | changes
    with pytest.raises(InputError, match=message):
        started(params, tokenizer, tmp_path / "cache", **options)


@pytest.mark.slow
def test_vectors_of_a_file_become_the_table_scaled(tmp_path):
    (tmp_path / "v.txt").write_text("film 1 2 3 4 5\ngreat 5 4 3 2 1\n")
    tokenizer = tokenizer_of(TEXTS)
    params = params_of(tokenizer)
    plain, lines = started(params, tokenizer, tmp_path / "cache", vectors=str(tmp_path / "v.txt"))
    table = np.asarray(plain["embedding"]["embedding"])
    assert table[tokenizer.words.index("film")].tolist() == [1, 2, 3, 4, 5]
    assert not table[tokenizer.words.index("dull")].any()
    assert "most frequent words without a vector" in lines[0]
    scaled, _ = started(params, tokenizer, tmp_path / "cache", vectors=str(tmp_path / "v.txt"), scale=0.25)
    ratio = np.asarray(scaled["embedding"]["embedding"]) / np.where(table, table, 1)
    found = ratio[table.any(axis=1)]
    np.testing.assert_allclose(found, 0.25 / table[table.any(axis=1)].std(), rtol=1e-5)


@pytest.mark.slow
def test_word2vec_of_the_texts_is_kept_and_gives_the_unknown_word_a_vector(tmp_path, monkeypatch):
    pytest.importorskip("gensim")
    texts = [f"{text} rare{number}" for number, text in enumerate(TEXTS * 8)]
    tokenizer = Tokenizer.train(texts, vocab_size=8, lowercase=True, strip_html=True)
    first = trained_vectors(tokenizer, texts, 4, 1, 0, tmp_path)
    assert first.found.tolist() == [False] + [True] * 7
    assert first.source == WORD2VEC
    monkeypatch.setattr(
        "rnn_jax.training.initialisation.train_vectors", None
    )  # a second time it is not called
    assert same(trained_vectors(tokenizer, texts, 4, 1, 0, tmp_path).table, first.table)


def test_word2vec_of_equal_words_that_are_found_otherwise_is_trained_anew(tmp_path, monkeypatch):
    trained = []

    def train(rows, dim, **_):
        trained.append(rows)
        return [rows[0][0]], np.full((1, dim), len(trained), np.float32)

    monkeypatch.setattr("rnn_jax.training.initialisation.train_vectors", train)
    folded, kept = (Tokenizer.train(["A Film"], 300, lowercase, True, "bytes") for lowercase in (True, False))
    assert folded.words == kept.words
    first, second, again = (
        trained_vectors(each, ["A Film"], 2, 1, 0, tmp_path) for each in (folded, kept, folded)
    )
    assert [rows[0][0] for rows in trained] == ["a", "A"]
    assert same(first.table, again.table)
    assert not same(first.table, second.table)


def test_a_table_of_another_width_names_the_setting():
    params = {"embedding": {"embedding": jnp.zeros((3, 32))}}
    with pytest.raises(
        InputError, match=r"vectors have 50 dimensions but config.model.embedding_dim is 32; set it to 50"
    ):
        with_vectors(params, np.zeros((3, 50), np.float32))


@pytest.mark.slow
def test_the_best_checkpoint_is_the_one_taken(tmp_path):
    params_by_step = make_run(tmp_path / "old", accuracies=(0.9, 0.5))
    with Checkpoints(tmp_path / "old") as checkpoints:
        assert checkpoints.steps("best", fallback=False) == [1]
    tokenizer = tokenizer_of(TEXTS)
    moved, _ = transferred(params_of(tokenizer), tokenizer.words, tmp_path / "old", ["head"])
    assert same(moved["head"]["kernel"], params_by_step[1]["head"]["kernel"])


TWO_HALVES = (
    "embedding",
    ("encoder", "encoder/forward_rnn"),
    ("encoder", "encoder/backward_rnn", "backward"),
)


def flat(params):
    return flatten_dict(params, sep="/")


@pytest.mark.slow
def test_two_language_models_become_the_halves_of_a_bidirectional_classifier(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forward = flat(make_language_run(tmp_path / "forward", cell="lstm")[2])  # the best
    backward = flat(make_language_run(tmp_path / "backward", direction="backward", cell="lstm")[2])
    tokenizer = tokenizer_of(TEXTS[:2])
    params = params_of(tokenizer, cell="lstm", bidirectional=True)
    moved, lines = transferred(params, tokenizer.words, "forward", TWO_HALVES)
    old, new = flat(params), flat(moved)
    halves = {"encoder/forward_rnn/": forward, "encoder/backward_rnn/": backward}
    for path, array in new.items():
        half = next((beginning for beginning in halves if path.startswith(beginning)), None)
        if half:
            assert same(array, halves[half]["encoder/" + path.removeprefix(half)]), path
        elif path != "embedding/embedding":
            assert same(array, old[path]), path
    assert not same(forward["encoder/cell/hi/kernel"], backward["encoder/cell/hi/kernel"])
    words = Tokenizer.load(tmp_path / "forward" / "tokenizer.json").words
    rows = [words.index(word) for word in tokenizer.words]
    assert same(new["embedding/embedding"], forward["embedding/embedding"][rows])
    *taken, note = lines
    assert len(taken) == 1 + 2 * sum(path.startswith("encoder/") for path in forward)
    assert all(line.startswith("taken: ") for line in taken)
    assert "backward learned with an embedding of its own, and reads that of forward here" in note


@pytest.mark.slow
def test_halves_that_share_an_embedding_are_taken_without_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_language_run(tmp_path / "forward", cell="lstm")
    shutil.copytree(tmp_path / "forward", tmp_path / "backward")
    tokenizer = tokenizer_of(TEXTS[:2])
    params = params_of(tokenizer, cell="lstm", bidirectional=True)
    *taken, note = transferred(params, tokenizer.words, "forward", TWO_HALVES)[1]
    # A copy of the forward model does not read backward.
    assert note.startswith("note: backward learned to read forward, and encoder/backward_rnn reads backward")
    config = tmp_path / "backward" / "config.json"
    config.write_text(config.read_text().replace('"direction": "forward"', '"direction": "backward"'))
    assert transferred(params, tokenizer.words, "forward", TWO_HALVES)[1] == taken
    assert all(line.startswith("taken: ") for line in taken)


@pytest.mark.slow
def test_an_embedding_that_is_shared_in_another_order_is_taken_without_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forward = make_language_run(tmp_path / "forward", cell="lstm")[2]
    texts, way = ["a new film", *TEXTS[::-1]], "backward"
    backward = make_language_run(tmp_path / way, texts=texts, direction=way, cell="lstm")[2]
    old, new = (Tokenizer.load(tmp_path / name / "tokenizer.json").words for name in ("forward", "backward"))
    assert old != new[: len(old)]
    table, _ = remapped(forward["embedding"]["embedding"], old, new)
    with Checkpoints(tmp_path / "backward", keep=3) as checkpoints:
        best = {"step": 4, "loss": 0.1, "perplexity": 1.1}
        checkpoints.save(State(np.int32(4), backward | {"embedding": {"embedding": table}}), [best])
    tokenizer = tokenizer_of(TEXTS[:2])
    params = params_of(tokenizer, cell="lstm", bidirectional=True)
    lines = transferred(params, tokenizer.words, "forward", TWO_HALVES)[1]
    assert all(line.startswith("taken: ") for line in lines)


@pytest.mark.slow
def test_a_stack_of_a_language_model_becomes_a_half_of_a_bidirectional_one(tmp_path):
    source = flat(make_language_run(tmp_path / "forward", cell="gru", layers=2)[2])
    tokenizer = tokenizer_of(TEXTS[:2])
    params = params_of(tokenizer, layers=2, bidirectional=True, merge_at="top")
    moved, _ = transferred(
        params, tokenizer.words, tmp_path / "forward", [("encoder", "encoder/backward_rnn")]
    )
    for path, array in flat(moved).items():
        there = path.replace("encoder/backward_rnn", "encoder")
        assert same(array, source[there] if there != path else flat(params)[path]), path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("encoder", "encoder/foward_rnn"), r"pattern 'encoder/foward_rnn'.*mean 'encoder/forward_rnn'"),
        (("enc", "encoder/forward_rnn"), r"embedding.take has the pattern 'enc', which matches no"),
        (("encoder/*", "encoder/forward_rnn"), r"a path that goes elsewhere has no wildcards"),
        (("encoder",), r"embedding.take holds \('encoder',\); give a pattern, a pair"),
        (("encoder", 3), r"embedding.take holds \('encoder', 3\); give a pattern, a pair"),
        (3, r"embedding.take holds 3; give a pattern, a pair"),
        (
            ("encoder", "encoder/forward_rnn", "nowhere"),
            r"take is 'nowhere', which is not the folder of a run",
        ),
    ],
)
def test_what_cannot_go_elsewhere_is_refused(tmp_path, language_model, entry, message):
    tokenizer = tokenizer_of(TEXTS)
    params = params_of(tokenizer, bidirectional=True)
    options = {"from_workdir": str(language_model), "take": (entry,)}
    with pytest.raises(InputError, match=message):
        started(params, tokenizer, tmp_path / "cache", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"hidden": 6}, r"does not fit: not taken, \(4,.*forward_rnn/cell/.*give both networks"),
        ({"cell": "lstm"}, r"moves 'encoder' of .*forward to 'encoder/forward_rnn', where it does not fit"),
        ({"layers": 2, "merge_at": "top"}, r"not taken, no such parameter here: encoder/forward_rnn/cell/"),
    ],
)
def test_a_half_that_does_not_fit_is_refused(language_model, other, message):
    tokenizer = tokenizer_of(TEXTS)
    params = params_of(tokenizer, bidirectional=True, **other)
    with pytest.raises(InputError, match=message):
        transferred(params, tokenizer.words, language_model, [("encoder", "encoder/forward_rnn")])


def with_best(workdir, params):
    """Saves a checkpoint that is better than those of a run."""
    with Checkpoints(workdir, keep=3) as checkpoints:
        checkpoints.save(State(np.int32(9), params), [{"step": 9, "loss": 0.1, "accuracy": 1.0}])


@pytest.mark.slow
def test_a_language_model_goes_on_with_the_softmax_of_each_word(tmp_path):
    """The vocabulary is as large as the earlier one, and in another order."""
    params = make_language_run(tmp_path / "old", texts=["dull dull dull film film a"], tied=False)[2]
    params = params | {"softmax_bias": np.arange(5, dtype=np.float32)}
    with_best(tmp_path / "old", params)
    words = ["[PAD]", "[UNK]", "a", "new", "dull"]
    moved, lines = transferred(jax.tree.map(np.zeros_like, params), words, tmp_path / "old", ["*"])
    assert moved["softmax_bias"].tolist() == [0, 1, 4, 3, 2]
    table = params["softmax_table"]
    expected = np.stack([table[0], table[1], table[4], table[2:].mean(axis=0), table[2]])
    np.testing.assert_allclose(moved["softmax_table"], expected, rtol=1e-6)
    assert "taken: softmax_table, 2 of 3 words known" in lines


@pytest.mark.slow
def test_a_tagger_goes_on_with_the_vector_of_each_letter_and_no_scores_of_other_tags(tmp_path):
    sentences, names = [["baa", "ab"]], ["NOUN", "VERB"]
    old = make_tagger_run(tmp_path / "old", sentences, names, output="crf")[2]
    assert json.loads((tmp_path / "old" / "task.json").read_text())["letters"] == ["a", "b"]
    words = Tokenizer.load(tmp_path / "old" / "tokenizer.json").words
    fresh = jax.tree.map(np.zeros_like, old)
    moved, lines = transferred(fresh, words, tmp_path / "old", ["*"], names, ["b", "a"])
    assert same(moved["letter_embedding"]["embedding"], old["letter_embedding"]["embedding"][[0, 1, 3, 2]])
    assert same(moved["head"]["kernel"], old["head"]["kernel"])
    assert "taken: letter_embedding/embedding, 2 of 2 letters known" in lines
    moved, lines = transferred(fresh, words, tmp_path / "old", ["*"], ["LOC", "PER"], ["a", "b"])
    assert not any(leaf.any() for name in ("head", "crf") for leaf in jax.tree.leaves(moved[name]))
    assert "not taken, its labels there are NOUN, VERB: crf/transitions" in lines
    assert same(moved["letter_embedding"]["embedding"], old["letter_embedding"]["embedding"])


def checked(**options):
    return Start(**{**EMBEDDING, **options}).check()


def test_what_takes_from_no_run_is_refused_and_triples_need_no_other_run(classifier, tmp_path):
    moved = ("encoder/cell", "encoder/cell", str(classifier))
    assert checked(take=("embedding",)) is None  # the default, which takes nothing without a run
    assert checked(take=(moved,)) is None
    for take in (("encoder",), ("embedding", moved), ["head"]):
        with pytest.raises(InputError, match=r"embedding.take takes \['\w+'\], but names no run"):
            checked(take=take)
    with pytest.raises(InputError, match=r"embedding.take is 'nowhere', which is not the folder of a run"):
        checked(take=(("encoder", "encoder", "nowhere"),))
    tokenizer, old = tokenizer_of(TEXTS), best_params(classifier)
    params, _ = started(params_of(tokenizer), tokenizer, tmp_path / "cache", take=(moved,))
    assert all(map(same, jax.tree.leaves(params["encoder"]), jax.tree.leaves(old["encoder"])))


def test_a_run_of_which_nothing_is_taken_is_refused(classifier, tmp_path):
    shutil.copytree(classifier, tmp_path / "other")
    moved = ("encoder", "encoder", str(classifier))
    for take in ((), (moved,)):
        with pytest.raises(InputError, match=r"from_workdir is '.*', but embedding.take is .* takes nothing"):
            checked(from_workdir=str(tmp_path / "other"), take=take)
    assert checked(from_workdir=str(classifier), take=(moved,)) is None


@pytest.mark.parametrize("take", ["embedding", "*", "embedding/embedding"])
def test_vectors_that_an_earlier_embedding_would_replace_are_refused(classifier, tmp_path, take):
    (tmp_path / "v.txt").write_text("film 1 2 3 4 5\n")
    vectors = str(tmp_path / "v.txt")
    with pytest.raises(InputError, match=r"set embedding.vectors to '', or leave the embedding out"):
        checked(vectors=vectors, from_workdir=str(classifier), take=(take,))
    assert checked(vectors=vectors, from_workdir=str(classifier), take=("encoder",)) is None
