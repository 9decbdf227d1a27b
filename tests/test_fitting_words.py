"""rnn_jax.fit on lists of words and lists of tags: a tagger, without an argument that says so."""

import numpy as np
import pytest

import rnn_jax
from rnn_jax.errors import InputError
from rnn_jax.inference import Tagger
from tests.training.test_tagging import made_up

TINY = {
    "model.cell": "simple", "model.embedding_dim": 8, "model.hidden": 8, "model.letter_hidden": 8,
    "text.letters": 8, "text.max_length": 16, "batch.size": 8, "batch.buckets": 1,
    "optimizer.learning_rate": 0.02, "train.epochs": 5,
}  # fmt: skip
ROWS = made_up(80, 0)
WORDS, TAGS = [row.words for row in ROWS], [row.tags for row in ROWS]


def fit(*data, **changes):
    return rnn_jax.fit(*data, progress=False, **{**TINY, **changes})


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return fit(WORDS, TAGS, workdir=tmp_path_factory.mktemp("fit") / "w")


@pytest.mark.slow
def test_a_tagger_is_trained_that_tags_words_it_never_saw(tagger):
    assert isinstance(tagger, Tagger)
    assert tagger.predict([["to", "run"], ["the", "run"], ["bcdness"]]).tags == [
        ["PART", "VERB"],
        ["DET", "NOUN"],
        ["NOUN"],
    ]
    assert tagger.config.data.test_share == 0  # no sentence is taken from training without need
    results = (tagger.workdir / "results.json").read_text()
    assert '"tested_on": "validation"' in results


@pytest.mark.slow
def test_training_goes_on_from_a_tagger(tagger):
    more = fit(WORDS, TAGS, start=tagger, **{"train.epochs": 1, "optimizer.learning_rate": 1e-9})
    assert more.config.embedding.from_workdir == str(tagger.workdir)
    ours, theirs = (model.predict(WORDS[:9]) for model in (more, tagger))
    assert ours.tags == theirs.tags
    for one, other in zip(ours.probabilities, theirs.probabilities, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.slow
def test_a_test_split_is_cut_where_it_is_asked_for(capsys):
    rnn_jax.fit(WORDS, TAGS, **TINY | {"data.test_share": 0.1, "train.epochs": 1})
    output = capsys.readouterr().out
    assert "8 test (" in output
    assert "test accuracy" in output


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (
            (WORDS, TAGS),
            {"recipe": "smoke"},
            "texts are lists of words, which a tagger takes, but the task is",
        ),
        ((WORDS, [tags[1:] for tags in TAGS]), {}, "row 0 of split 'train' has .* words and .* tags"),
        ((WORDS, TAGS[1:]), {}, "there are 80 texts and 79 labels"),
        (([["a", 1]] * 9, [["X", "Y"]] * 9), {}, "which no column can"),
        ((WORDS, [["X"] * len(words) for words in WORDS]), {}, "has the tags .'X'.; a tagger needs two"),
    ],
)
def test_data_that_cannot_be_is_refused_before_training(data, changes, message):
    with pytest.raises(InputError, match=message):
        fit(*data, **changes)
