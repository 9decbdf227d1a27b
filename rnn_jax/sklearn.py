"""Estimators for scikit-learn: a text classifier and a text regressor that train with `rnn_jax.fit`."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from rnn_jax.config import flatten
from rnn_jax.data.in_memory import texts_in
from rnn_jax.errors import nearest, require
from rnn_jax.fitting import fit
from rnn_jax.settings import CLASSIFIER

SEEDS = 2**31  # how many a random state of scikit-learn is asked for


class _TextEstimator(BaseEstimator):
    """What the two estimators have in common: their parameters, and how they train."""

    def __init__(
        self,
        recipe: Any = None,
        *,
        validation: Any = None,
        random_state: Any = None,
        start: Any = None,
        progress: bool = False,
        **settings: Any,
    ):
        self.recipe, self.validation, self.random_state = recipe, validation, random_state
        self.start, self.progress, self.settings = start, progress, settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the parameters by name, the given settings among them."""
        return {**super().get_params(deep), **self.settings}

    def set_params(self, **params: Any) -> "_TextEstimator":
        """Sets parameters, and settings by dotted key such as `model.hidden`; returns the estimator.

        Raises:
          InputError: a name that is neither.
        """
        own = set(self._get_param_names())
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
                continue
            known = flatten(CLASSIFIER)
            require(
                name in known,
                f"{name!r} is neither a parameter of {type(self).__name__} nor a setting."
                f"{nearest(name, [*own, *known])}",
            )
            self.settings = {**self.settings, name: value}
        return self

    def __sklearn_tags__(self) -> Any:
        """Tells scikit-learn that the input is one column of strings."""
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, False
        tags.input_tags.string = tags.input_tags.allow_nan = True
        return tags

    def _train(self, X: Any, y: list[Any], **settings: Any) -> None:
        if self.random_state is not None:
            drawn = self.random_state
            if not isinstance(drawn, int | np.integer):
                drawn = check_random_state(drawn).randint(SEEDS)
            settings |= {"seed": int(drawn), "data.split_seed": int(drawn)}
        # Without these words each fold would have a vocabulary of its own size, and a program of its own.
        settings = {"text.fill_vocabulary": True, **settings, **self.settings}
        self.model_ = fit(
            list(texts_in(X)),
            y,
            recipe=self.recipe,
            validation=self.validation,
            progress=self.progress,
            start=self.start,
            **settings,
        )

    def _predict(self, X: Iterable[Any]) -> Any:
        check_is_fitted(self)
        return self.model_.predict(texts_in(X), self.progress)


class RNNClassifier(ClassifierMixin, _TextEstimator):
    """A recurrent network that sorts texts into classes, as an estimator of scikit-learn.

    X is one column of n strings: a list, an array, a column of pandas. It is not a matrix, so that there is
    no `n_features_in_`.

    >>> from rnn_jax.sklearn import RNNClassifier
    >>> estimator = RNNClassifier("smoke", random_state=0, **{"model.hidden": 8})
    >>> estimator.set_params(**{"train.epochs": 2}).get_params()["train.epochs"]
    2

    Attributes:
      recipe: the name of a recipe, or a ConfigDict with all settings; None is "bilstm", or the settings of
        `start`.
      validation: the share of X on which the best checkpoint is chosen; None is the recipe's, 0.1.
      random_state: an integer, a RandomState, or None for the recipe's seed, 0. Equal seeds give equal
        networks.
      start: a model or the folder of a run to start from.
      progress: whether to print while it trains and predicts.
      settings: all other keywords, the settings by dotted key, as in `rnn_jax.fit`.
      classes_: the C labels, sorted, after `fit`.
      model_: the `rnn_jax.Predictor`, after `fit`.
    """

    def fit(self, X: Any, y: Any) -> "RNNClassifier":
        """Trains on n texts and n labels, integers or strings; returns the estimator.

        Raises:
          InputError: texts, labels or settings that cannot be used.
          TypeError: X is one string, or holds something that is not a string.
        """
        require(
            self.validation is None or isinstance(self.validation, Real),
            f"validation is a {type(self.validation).__name__}; give the share of X to validate on, or call "
            "rnn_jax.fit, which takes a split of its own",
        )
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        self.classes_, positions = np.unique(labels, return_inverse=True)
        require(len(self.classes_) != 1, f"y holds only {self.classes_.tolist()}; give two classes or more")
        names = tuple(map(str, self.classes_.tolist()))
        self._train(X, positions.tolist(), **{"data.label_names": names})
        return self

    def predict(self, X: Iterable[Any]) -> np.ndarray:
        """Returns n labels, each one of `classes_`."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Iterable[Any]) -> np.ndarray:
        """Returns float32[n, C], the probability of each of `classes_`."""
        return self._predict(X).probabilities


class RNNRegressor(RegressorMixin, _TextEstimator):
    """A recurrent network that gives each text a number, as an estimator of scikit-learn.

    >>> from rnn_jax.sklearn import RNNRegressor
    >>> RNNRegressor("smoke").get_params()["recipe"]
    'smoke'

    Attributes:
      recipe, validation, random_state, start, progress, settings: as in `RNNClassifier`.
      model_: the `rnn_jax.Predictor`, after `fit`.
    """

    def fit(self, X: Any, y: Any) -> "RNNRegressor":
        """Trains on n texts and n numbers; returns the estimator.

        Raises:
          InputError: texts, numbers or settings that cannot be used.
          TypeError: X is one string, or holds something that is not a string.
        """
        numbers = np.asarray(column_or_1d(y, warn=True), float)
        self._train(X, numbers.tolist(), **{"data.target": "number"})
        return self

    def predict(self, X: Iterable[Any]) -> np.ndarray:
        """Returns n numbers."""
        return self._predict(X).values
