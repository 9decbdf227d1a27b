"""The settings that a command line names, and what it says of those that there are not."""

import pytest

from rnn_jax.errors import InputError
from rnn_jax.settings import recipe
from rnn_jax.training.command import with_overrides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.epoch=3", "no such setting: 'epoch'. Did you mean \"epochs\""),
        ("--config.trian.epochs=3", "no such setting: 'trian'. Did you mean \"train\""),
        ("--config.model.contextual.hiden=3", "no such setting: 'hiden'"),
        ("--config.train.epochs=some", "flag --config.train.epochs=some"),
    ],
)
def test_a_setting_that_there_is_not_is_refused_where_the_settings_are_no_file(override, message):
    """So it is with --recipe auto and with --from, whose settings come from a choice and from a run."""
    with pytest.raises(InputError, match=message):
        with_overrides(recipe("smoke"), [override])
