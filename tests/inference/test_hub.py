"""A model pushed to a hub is the model that is loaded from it; what goes wrong names the fix."""

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest

import rnn_jax
from rnn_jax.cli import main
from rnn_jax.errors import InputError
from rnn_jax.inference import About, push_model
from tests.helpers.hub import TOKEN, hub_here
from tests.helpers.runs import TEXTS, make_run, make_tagger_run

# From the library's own uploads by Git LFS.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    make_run(workdir)
    (workdir / "results.json").write_text('{"best_step": 2}')
    return workdir


@pytest.fixture(scope="module")
def model(run):
    return rnn_jax.load(run)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)  # its servers are not here
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    with hub_here() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_what_is_pushed_is_what_is_loaded_and_every_revision_stays(hub, model, run):
    first = push_model(model, "ada/reviews", About(license="mit"))
    push_model(rnn_jax.load(run, which="last"), "ada/reviews", About())
    assert ["results.json" in files for files in hub.commits["ada/reviews"].values()] == [False, True, False]
    newest, earlier = rnn_jax.load("hf://ada/reviews"), rnn_jax.load(first)
    assert (earlier.step, newest.step) == (2, 3)
    np.testing.assert_array_equal(earlier.predict_proba(TEXTS), model.predict_proba(TEXTS))
    assert "hf://ada/reviews" in hub.commits["ada/reviews"][first.split("@")[1]]["README.md"].decode()
    assert len(hub.large) == 2  # the parameters went by Git LFS
    assert not hub.private


def test_a_tagger_is_pushed_and_loaded(hub, tmp_path, capsys):
    make_tagger_run(tmp_path / "w", [["Dogs", "bark"]], ["NOUN", "VERB"])
    main(["push", "--workdir", str(tmp_path / "w"), "ada/tags"])
    found = rnn_jax.load(capsys.readouterr().out.split()[0]).predict(["Dogs bark"])
    assert found.tags == rnn_jax.load(tmp_path / "w").predict(["Dogs bark"]).tags


def test_the_command_pushes_and_a_private_repository_opens_with_a_token(hub, run, monkeypatch, capsys):
    main(["push", "--workdir", str(run), "ada/secret", "--private", "--license", "apache-2.0"])
    address = capsys.readouterr().out.split()[0]
    assert address.startswith("hf://ada/secret@")
    assert rnn_jax.load(address).step == 2
    assert b"license: apache-2.0" in hub.commits["ada/secret"][address.split("@")[1]]["README.md"]
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(InputError, match=r"hf://ada/secret is not there: .* private, run `hf auth login`"):
        rnn_jax.load("hf://ada/secret")


def test_files_are_fetched_once_and_only_those_of_a_model(hub, model):
    push_model(model, "ada/reviews", About())
    hub.commit("ada/reviews", {"huge.bin": b"0" * 10})
    rnn_jax.load("hf://ada/reviews")
    asked = [path for path in hub.asked if "/resolve/" in path]
    rnn_jax.load("hf://ada/reviews")
    assert [path for path in hub.asked if "/resolve/" in path] == asked
    assert not [path for path in asked if "huge.bin" in path]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://ada/none", "is not there: look at the name"),
        ("hf://ada/other@v9", "no such revision; give a branch, a tag or a commit"),
        ("hf://ada/other", r"is no model of rnn_jax: the repository has no model\.safetensors, config\.json"),
        ("hf://ada", "names no repository; give hf://user/name"),
        ("hf://ada/../../etc", "names no repository"),
        ("hf://ada/other@", "names no repository"),
    ],
)
def test_what_is_not_on_the_hub_is_named(hub, source, message):
    hub.commit("ada/other", {"README.md": b"another program's"})
    with pytest.raises(InputError, match=message):
        rnn_jax.load(source)


def test_without_a_network_the_error_says_so(hub, monkeypatch, model):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(InputError, match=r"reviews cannot be reached .*check the network, HF_ENDPOINT"):
        rnn_jax.load("hf://ada/reviews")
    with pytest.raises(InputError, match="hf://ada/reviews cannot be reached"):
        push_model(model, "ada/reviews", About())


def test_who_may_not_write_is_told_how_to(hub, monkeypatch, model):
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    with pytest.raises(InputError, match=r"the hub refused hf://ada/reviews: .*a token that may write"):
        push_model(model, "ada/reviews", About())
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match=r"no token to write .*`hf auth login`, or set HF_TOKEN"):
        push_model(model, "ada/reviews", About())
    with pytest.raises(InputError, match="repository is 'reviews'; give user/name"):
        push_model(model, "reviews", About())
    assert not hub.commits
