"""The estimators in scikit-learn's own tools: parameters, folds, searches, pipelines, calibration."""

import importlib
import json
import pickle

import jax.monitoring
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import rnn_jax
from rnn_jax.errors import InputError
from rnn_jax.sklearn import RNNClassifier, RNNRegressor
from rnn_jax.training.programs import PROGRAMS
from tests.helpers.jobs import tiny_config, write_reviews

SMALL = {"text.vocab_size": 130, "text.max_length": 48, "train.epochs": 2, "batch.size": 16}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    path = write_reviews(tmp_path_factory.mktemp("data") / "reviews.jsonl", 96)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return np.array([row["text"] for row in rows]), np.array([("bad", "good")[row["label"]] for row in rows])


def estimator(**settings):
    return RNNClassifier(tiny_config(""), random_state=3, **{**SMALL, "data.test_share": 0, **settings})


@pytest.fixture(scope="module")
def fitted(reviews):
    return estimator().fit(*reviews)


def test_parameters_are_those_of_scikit_learn_and_the_settings():
    made = RNNClassifier("smoke", random_state=1, **{"model.hidden": 8})
    assert made.get_params() == {
        "recipe": "smoke",
        "validation": None,
        "random_state": 1,
        "start": None,
        "progress": False,
        "model.hidden": 8,
    }
    assert clone(made).get_params() == made.get_params()
    assert clone(made).set_params(**{"model.hidden": 16, "recipe": "gru"}).get_params()["model.hidden"] == 16
    assert made.get_params()["model.hidden"] == 8
    with pytest.raises(InputError, match=r"'model.hiden' is neither a parameter of RNNClassifier nor a set"):
        made.set_params(**{"model.hiden": 16})
    pipeline = make_pipeline(FunctionTransformer(), made).set_params(**{"rnnclassifier__model.hidden": 4})
    assert pipeline[-1].get_params()["model.hidden"] == 4
    assert "model.hidden=4" in repr(pipeline)


def test_a_fold_of_smoke_compiles_once_for_all_folds(reviews):
    seconds = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, value, **_: seconds.append(value) if "backend_compile" in name else None
    )
    counts = []

    class Counted(RNNClassifier):
        def fit(self, X, y):
            super().fit(X, y)
            counts.append((PROGRAMS.compiled, len(seconds)))
            return self

    changes = {"text.vocab_size": 130, "text.max_length": 32}
    scores = cross_val_score(Counted("smoke", **changes), *reviews, cv=StratifiedKFold(4), n_jobs=1)
    assert scores.shape == (4,)
    compiled, of_all_kinds = np.array(counts).T
    assert np.all(compiled == compiled[0]), "the train and the eval step are those of the first fold"
    # What is left is small: the loop that Flax draws the parameters with.
    assert np.all(np.diff(of_all_kinds[1:]) <= 1)


def test_labels_and_probabilities_are_those_of_the_classes(reviews, fitted):
    texts, labels = reviews
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert not hasattr(fitted, "n_features_in_")
    probabilities = fitted.predict_proba(texts)
    assert probabilities.shape == (96, 2)
    np.testing.assert_array_equal(fitted.predict(texts), fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(texts, labels) == np.mean(fitted.predict(texts) == labels)
    np.testing.assert_array_equal(probabilities, fitted.model_.predict(texts).probabilities)


@pytest.mark.slow
def test_labels_that_are_numbers_come_back_as_they_were(reviews, fitted):
    texts, labels = reviews
    stars = np.where(labels == "good", 5, 1).astype(np.int64)
    other = estimator().fit(pd.Series(texts), pd.DataFrame(stars)[0])
    assert other.classes_.tolist() == [1, 5]
    assert set(other.predict(list(texts)).tolist()) <= {1, 5}
    assert other.predict(texts).dtype == stars.dtype
    np.testing.assert_array_equal(other.predict_proba(texts), fitted.predict_proba(texts))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        estimator().fit(texts, np.linspace(0, 1, 96))
    with pytest.raises(NotFittedError):
        estimator().predict(texts)


@pytest.mark.parametrize("made", [RNNClassifier, RNNRegressor])
def test_what_predict_could_not_read_is_refused_before_training(made):
    with pytest.raises(TypeError, match=r"text 0 is \('a', 'b'\), not a string"):
        made("smoke").fit([("a", "b"), ("c", "d")] * 20, [0, 1] * 20)


def test_a_split_to_validate_on_is_refused_whose_labels_would_be_taken_for_positions():
    """Of the classes 1, 2 and 3 the label 1 would be the second one."""
    with pytest.raises(InputError, match="validation is a tuple; give the share of X"):
        RNNClassifier("smoke", validation=(["new"], [1])).fit(["a", "b", "c"] * 20, [1, 2, 3] * 20)


def test_a_single_class_is_named_as_it_was_given():
    with pytest.raises(InputError, match=r"y holds only \['good'\]; give two classes"):
        RNNClassifier("smoke").fit(["a", "b", "c"] * 20, ["good"] * 60)


@pytest.mark.slow
def test_the_random_state_decides_the_network(reviews, fitted):
    again, other = estimator().fit(*reviews), estimator().set_params(random_state=4).fit(*reviews)
    np.testing.assert_array_equal(again.predict_proba(reviews[0]), fitted.predict_proba(reviews[0]))
    assert not np.array_equal(other.predict_proba(reviews[0]), fitted.predict_proba(reviews[0]))
    drawn = [estimator(seed=5).set_params(random_state=np.random.RandomState(0)) for _ in range(2)]
    assert drawn[0].fit(*reviews).model_.config.seed == 5  # a setting that is given is kept
    assert drawn[1].fit(*reviews).model_.config.data.split_seed == np.random.RandomState(0).randint(2**31)


def test_what_starts_from_a_model_has_its_network_and_parameters(reviews, fitted):
    """The default recipe has another network, which took nothing of it, in silence."""
    still = {"optimizer.learning_rate": 1e-9, "train.epochs": 1}
    more = RNNClassifier(start=fitted.model_, random_state=3, **still).fit(*reviews)
    assert more.model_.config.model == fitted.model_.config.model
    np.testing.assert_allclose(more.predict_proba(reviews[0]), fitted.predict_proba(reviews[0]), atol=1e-4)


def test_a_copy_in_another_process_predicts_the_same(reviews, fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(reviews[0]), fitted.predict_proba(reviews[0]))


@pytest.mark.slow
def test_a_search_and_a_pipeline(reviews):
    texts, labels = reviews
    shout = FunctionTransformer(lambda column: [text.upper() for text in column])
    pipeline = make_pipeline(shout, estimator(**{"train.epochs": 4}))
    rates = [1e-9, 0.03]
    search = GridSearchCV(
        pipeline,
        {"rnnclassifier__optimizer.learning_rate": rates},
        cv=2,
        error_score="raise",
    )
    search.fit(texts, labels)
    assert search.best_params_["rnnclassifier__optimizer.learning_rate"] == 0.03
    assert search.best_estimator_.score(texts, labels) > 0.9
    assert search.predict(texts[:3]).shape == (3,)


@pytest.mark.slow
def test_calibration_takes_the_probabilities(reviews):
    calibrated = CalibratedClassifierCV(estimator(), cv=2).fit(*reviews)
    assert calibrated.classes_.tolist() == ["bad", "good"]
    np.testing.assert_allclose(calibrated.predict_proba(reviews[0]).sum(axis=1), 1)


def test_it_is_there_with_the_library():
    assert rnn_jax.sklearn is importlib.import_module("rnn_jax.sklearn")


@pytest.mark.slow
def test_a_regressor_gives_numbers(reviews):
    texts, labels = reviews
    numbers = np.where(labels == "good", 4.0, -2.0)
    config = tiny_config("", optimizer__learning_rate=0.03, train__epochs=10)
    regressor = RNNRegressor(config, **{"text.max_length": 48, "data.test_share": 0}).fit(texts, numbers)
    assert regressor.predict(texts).shape == (96,)
    assert regressor.score(texts, numbers) > 0.5
    assert clone(regressor).get_params()["text.max_length"] == 48
    before = PROGRAMS.compiled
    folds = KFold(3, shuffle=True, random_state=0)  # as many texts in each: one train and one eval step
    scores = cross_val_score(clone(regressor).set_params(**SMALL), texts, numbers, cv=folds)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    assert PROGRAMS.compiled - before <= 4
