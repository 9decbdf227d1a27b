"""The server answers as the predictor does, refuses what is beyond its limits, and says how to ask."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from rnn_jax.errors import InputError
from rnn_jax.inference import attribution
from rnn_jax.inference.ensemble import Ensemble
from rnn_jax.serving import Limits, make_app
from rnn_jax.serving.answers import Answers
from rnn_jax.serving.openapi import openapi
from tests.helpers.predictors import WORDS, make_predictor
from tests.helpers.runs import TEXTS

LIMITS = Limits(body_bytes=2000, texts=30, characters=300, seconds=20.0)


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture(scope="module")
def client(predictor):
    with TestClient(make_app(predictor, LIMITS)) as client:
        yield client


def test_answers_are_the_predictions(client, predictor):
    texts = [*TEXTS, "", "zyzzyva", "a \ud800 film", "great " * 40]
    found = client.post("/predict", content=json.dumps({"texts": texts}), headers=JSON).json()["predictions"]
    labels, probabilities = predictor.predict(texts)
    assert [answer["label"] for answer in found] == labels
    rows = [[answer["probabilities"][name] for name in predictor.label_names] for answer in found]
    np.testing.assert_allclose(rows, probabilities, atol=1e-6)
    assert [answer["probability"] for answer in found] == [max(row) for row in rows]
    alone = client.post("/predict", json={"text": texts[0]}).json()
    assert alone["label"] == found[0]["label"]
    assert alone["probabilities"] == pytest.approx(found[0]["probabilities"], abs=1e-6)
    assert client.post("/predict", json={"texts": []}).json() == {"predictions": []}


def test_pieces_are_the_whole_text_and_their_scores_the_attribution(client, predictor):
    text = f"  {WORDS} <br /> a\nfilm & <b>dull</b>  "
    found = client.post("/explain", json={"text": text}).json()
    assert "".join(piece["text"] for piece in found["pieces"]) == text
    scored = [piece for piece in found["pieces"] if piece["score"] is not None]
    expected = predictor.attribute(text, steps=32)
    assert [piece["text"] for piece in scored] == expected.words
    np.testing.assert_allclose([piece["score"] for piece in scored], expected.scores, atol=1e-5)
    assert found["explained"] == found["label"] == expected.label
    other = client.post("/explain", json={"text": text, "label": "negative"}).json()
    assert other["explained"] == "negative"
    assert client.post("/explain", json={"text": ""}).json()["pieces"] == []


def test_the_explanation_of_a_number_takes_no_label():
    with TestClient(make_app(make_predictor(target="number"), LIMITS)) as client:
        refused = client.post("/explain", json={"text": "a film", "label": "nonsense"})
        assert (refused.status_code, "leave it out" in refused.json()["error"]) == (422, True)
        assert client.post("/explain", json={"text": "a film"}).json()["explained"] is None


JSON = {"content-type": "application/json"}
REFUSED = {
    "no JSON": ("/predict", b"text=a", 400, "the body is not JSON"),
    "no UTF-8": ("/predict", b'{"text": "\xff"}', 400, "not JSON in UTF-8"),
    "nested": ("/predict", b"[" * 1900, 400, "not JSON"),
    "a list": ("/predict", b"[]", 422, "no JSON object; give one with text or texts"),
    "nothing": ("/predict", b"{}", 422, 'give one of {"text"'),
    "both": ("/predict", b'{"text": "a", "texts": []}', 422, 'give one of {"text"'),
    "another key": ("/predict", b'{"txt": "a"}', 422, "'txt' is none of: text, texts. Did you mean 'text'?"),
    "a number": ("/predict", b'{"texts": ["a", 7]}', 422, "texts[1] is 7, not a string"),
    "one string": ("/predict", b'{"texts": "a"}', 422, "texts is a str; give a list"),
    "too many": ("/predict", json.dumps({"texts": ["a"] * 31}).encode(), 422, "31 texts; give at most 30"),
    "too long": ("/predict", json.dumps({"text": "a" * 301}).encode(), 422, "text has 301 characters"),
    "too large": ("/predict", b" " * 2001, 413, "the body is over 2,000 bytes"),
    "no such label": ("/explain", b'{"text": "a", "label": "positve"}', 422, "Did you mean 'positive'?"),
    "a label that is none": ("/explain", b'{"text": "a", "label": 1}', 422, "label is no string"),
    "no text": ("/explain", b"{}", 422, "text is null, not a string"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_question_is_refused_with_the_fix(client, name):
    path, body, status, message = REFUSED[name]
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_a_body_of_unknown_length_is_cut_at_the_limit(client):
    def parts():
        yield from (b" " * 500 for _ in range(5))

    assert client.post("/predict", content=parts(), headers=JSON).status_code == 413


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken_so_that_no_other_site_can_ask(client, content_type):
    answer = client.post("/predict", content=b'{"text": "a"}', headers={"content-type": content_type})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


def test_other_paths_and_methods_are_named(client):
    for path in ("/../config.json", "/..%2f..%2fetc/passwd", "/page.html", "/predict/x"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "/openapi.json tells" in answer.json()["error"]
    assert client.get("/predict").status_code == 405
    assert client.post("/health").status_code == 405


def slow(monkeypatch, seconds):
    def predict(self, texts):
        time.sleep(seconds)
        return [{"label": "negative"}] * len(texts)

    monkeypatch.setattr(Answers, "predict", predict)


def test_an_answer_that_takes_too_long_is_a_503(predictor, monkeypatch):
    slow(monkeypatch, 0.4)
    with TestClient(make_app(predictor, Limits(seconds=0.1))) as client:
        answer = client.post("/predict", json={"text": "a"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "no answer within 0.1 seconds" in answer.json()["error"]


def test_texts_beyond_those_that_may_wait_are_a_503(predictor, monkeypatch):
    slow(monkeypatch, 0.5)
    with TestClient(make_app(predictor, Limits(waiting=3))) as client, ThreadPoolExecutor(1) as other:
        ask = partial(client.post, "/predict")
        first = other.submit(ask, json={"texts": ["a"] * 3})
        while client.get("/health").json()["waiting"] < 3:
            time.sleep(0.01)
        answer = ask(json={"texts": ["a"]})
        assert answer.status_code == 503
        assert "3 texts are waiting already" in answer.json()["error"]
        assert first.result().status_code == 200
        assert ask(json={"texts": ["a"] * 3}).status_code == 200


def test_a_failure_is_a_500_that_tells_strangers_nothing(predictor, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("secret")

    with TestClient(make_app(predictor), raise_server_exceptions=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(predictor.tokenizer, "encode", fail)
            answer = client.post("/predict", json={"text": "a"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert client.post("/predict", json={"text": "a"}).status_code == 200


def test_health_tells_labels_and_limits(client):
    found = client.get("/health").json()
    assert found["status"] == "ok"
    assert found["labels"] == ["negative", "positive"]
    assert found["limits"]["texts"] == 30


def test_a_server_that_stops_says_so_and_closes(predictor):
    app = make_app(predictor)
    with TestClient(app) as client:
        app.service.stopping = True
        assert client.get("/health").status_code == 503
        answer = client.post("/predict", json={"text": "a"})
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert app.service.received == app.service.answered == 2


def test_mounted_it_answers_where_its_lifespan_is_run_and_else_says_so(predictor):
    app = make_app(predictor, LIMITS)
    routes = [Mount("/reviews", app)]
    with TestClient(Starlette(routes=routes, lifespan=app.service.lifespan)) as client:
        assert client.post("/reviews/predict", json={"text": "a"}).status_code == 200
    with (
        TestClient(Starlette(routes=[Mount("/reviews", make_app(predictor))])) as client,
        pytest.raises(InputError, match=r"has not started.*lifespan=app\.service\.lifespan"),
    ):
        client.post("/reviews/predict", json={"text": "a"})


def test_what_is_no_classifier_is_refused_before_it_is_served(predictor):
    for model in (None, Ensemble([predictor, make_predictor(seed=6)])):
        with pytest.raises(InputError, match=f"predictor is a {type(model).__name__}; give one classifier"):
            make_app(model)


@pytest.mark.slow
def test_nothing_is_compiled_once_the_server_is_ready():
    predictor = make_predictor(hidden=3)
    answers = Answers(predictor)
    answers.compile()

    def compiled():
        parts = predictor._program._parts.values()  # of each shape: a text, and two programs
        programs = [program for part in parts for program in part[1:]]
        return len(parts), [each._cache_size() for each in (*programs, attribution._attribute_words)]

    before = compiled()
    assert before[0] == len(answers.shapes) == 4  # one text or a batch of 4, of 6 or 12 words
    for count in (1, 3, 4, 9):
        answers.predict([*TEXTS, "great " * 30, "a b c d e f g"][:count] * 2)
    for text in ("", "great", "great " * 7, "great " * 30):
        answers.explain(text, "negative")
    assert compiled() == before


def test_the_description_is_of_the_routes_and_resolves(client):
    described = client.get("/openapi.json").json()
    assert described == openapi(LIMITS, ("negative", "positive"))
    assert described["openapi"] == "3.1.0"
    names = set(described["components"]["schemas"])
    text = json.dumps(described)
    assert {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]} == names
    for path, methods in described["paths"].items():
        for method in methods:
            answer = client.request(method, path, headers=JSON, content=b"{}" if method == "post" else None)
            assert str(answer.status_code) in methods[method]["responses"], path
    prediction = described["components"]["schemas"]["Prediction"]
    assert set(client.post("/predict", json={"text": "a"}).json()) == set(prediction["required"])
    explanation = described["components"]["schemas"]["Explanation"]
    assert set(client.post("/explain", json={"text": "a"}).json()) == set(explanation["required"])


@pytest.mark.parametrize(("name", "value"), [("texts", 0), ("seconds", -1), ("seconds", float("nan"))])
def test_limits_that_let_nothing_in_are_refused(predictor, name, value):
    with pytest.raises(InputError, match=f"{name} is {value}; give a number above 0"):
        make_app(predictor, Limits(**{name: value}))
