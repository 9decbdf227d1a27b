"""A server that is stopped under the load of 32 clients has answered all that it has read."""

import pytest

from tests.stress.load import make_model, make_texts, put_under_load, serving, stop_under_load


@pytest.mark.slow
def test_no_request_is_lost_when_a_server_stops_under_load(tmp_path):
    predictor = make_model(tmp_path / "model", words=48, hidden=8)
    texts = make_texts(48)
    labels = predictor.predict(texts).labels
    with serving(tmp_path / "model") as (process, port):
        load = put_under_load(port, texts, labels, seconds=1.5)
        assert len(load.seconds) > 50
        assert not load.cut + load.turned_away + load.wrong
        stop, answered, received = stop_under_load(process, port, texts, labels, seconds=4)
        assert stop.turned_away  # it did stop while clients still asked
        assert received == answered == len(load.seconds) + len(stop.seconds)
        assert not stop.wrong
        assert process.returncode == 0
