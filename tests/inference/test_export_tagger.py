"""The export of a tagger: what the programs in docs/export.md tag with it, without this library."""

import json
import subprocess
import sys

import numpy as np
import pytest

import rnn_jax
from rnn_jax.cli import main
from rnn_jax.errors import InputError
from rnn_jax.inference import export_tagger
from tests.helpers.runs import make_tagger_run
from tests.inference.test_export import PROGRAM, TAGGER_PROGRAM, about

WORDS = ["Dogs", "bark", "loudly"]
# Words of more letters than are read, unknown ones, and more words than are read at once, also by one.
SENTENCES = [WORDS, ["Dogs"], ["undogginess", "[PAD]", "é"], WORDS * 3, []]


@pytest.fixture(scope="module", params=["softmax", "crf"])
def run(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    make_tagger_run(workdir, [WORDS], ["NOUN", "VERB", "ADV"], output=request.param)
    return workdir


@pytest.mark.slow
def test_the_documented_program_tags_the_same_without_this_library(run, tmp_path, capsys):
    main(["export", "--workdir", str(run), "--out", str(tmp_path / "e.zip")])
    assert "e.zip: step 2, " in capsys.readouterr().out
    code = f"{PROGRAM}\n{TAGGER_PROGRAM}\nimport sys\ntag = load_tagger(sys.argv[1])\n"
    code += "print(json.dumps([tag(words) for words in json.load(sys.stdin)]))\n"
    forbid = "import sys; sys.modules.update(dict.fromkeys(('rnn_jax', 'flax', 'optax', 'orbax')))\n"
    done = subprocess.run(
        [sys.executable, "-c", forbid + code, tmp_path / "e.zip"],
        input=json.dumps(SENTENCES),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = rnn_jax.load(run).predict(SENTENCES)
    for found, tags, p in zip(json.loads(done.stdout), expected.tags, expected.probabilities, strict=True):
        assert [tag for tag, _ in found] == tags
        np.testing.assert_allclose([value for _, value in found], p, rtol=0, atol=1e-6)


def test_the_file_says_how_words_become_numbers(run, tmp_path):
    tagger = rnn_jax.load(run)
    export_tagger(tagger, tmp_path / "e.zip")
    said = about(tmp_path / "e.zip")
    assert (said["kind"], said["tag_names"]) == ("rnn_jax tagger", ["NOUN", "VERB", "ADV"])
    assert (said["letters"], said["letter_width"]) == (list(tagger.spelling.letters), 6)
    assert (said["lowercase"], said["max_length"], said["buckets"]) == (True, 8, [4, 8])


def test_what_is_no_tagger_is_refused(tmp_path):
    with pytest.raises(InputError, match="tagger is a str; give a tagger"):
        export_tagger("runs/tagger", tmp_path / "e.zip")
