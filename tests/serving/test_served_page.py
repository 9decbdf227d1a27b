"""The page in a real browser: what it shows of a text is what the server says, and no text is run."""

import html
import re

import pytest
from starlette.testclient import TestClient

from rnn_jax.serving import make_app
from rnn_jax.serving.page import HEADERS, PAGE
from tests.helpers.browser import CHROMIUM, opened
from tests.helpers.predictors import make_predictor

HOSTILE = "<img src=x onerror=\"document.title='run'\"> great <script>document.title='run'</script> film"


@pytest.fixture(scope="module")
def app():
    return make_app(make_predictor(names=("bad", "<i>good</i>")))


def test_the_page_loads_nothing_and_its_policy_lets_only_its_own_script_run(app):
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', PAGE)
    assert "innerHTML" not in PAGE
    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]
    assert "default-src 'none'; script-src 'sha256-" in HEADERS["content-security-policy"]
    assert "unsafe" not in HEADERS["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path; apt-get install chromium")
def test_a_browser_shows_label_probabilities_and_coloured_words(app, tmp_path):
    with TestClient(app) as client:
        expected = client.post("/explain", json={"text": HOSTILE}).json()
    dom = opened(app, HOSTILE, tmp_path)
    assert 'data-state="done"' in dom
    assert "<title>Try the classifier</title>" in dom  # what the text tells the browser to do was not done
    assert f'<span id="label">{html.escape(expected["label"])}</span>' in dom
    shares = re.findall(r'class="share">([\d.]+) %<', dom)
    wanted = [f"{100 * share:.1f}" for share in expected["probabilities"].values()]
    assert shares == wanted
    (words,) = re.findall(r'<p id="words">(.*?)</p>', dom, re.DOTALL)
    spans = re.findall(r'<span class="(\w*)"[^>]*>(.*?)</span>', words, re.DOTALL)
    assert "".join(html.unescape(text) for _, text in spans) == HOSTILE
    signs = [piece["score"] for piece in expected["pieces"]]
    largest = max(abs(score or 0) for score in signs)
    for (kind, _), score in zip(spans, signs, strict=True):
        if score is not None and abs(score) > 0.05 * largest:
            assert kind == ("for" if score > 0 else "against")
    assert {"for", "unread"} <= {kind for kind, _ in spans}
