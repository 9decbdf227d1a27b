"""What a tokeniser learns from texts: words, or pieces of words, and their numbers.

Pieces are learned by byte-pair encoding ("bpe": Sennrich et al. 2016, Neural Machine Translation of Rare
Words with Subword Units) or as a unigram model ("unigram": Kudo 2018, Subword Regularization). What is
learned is a dictionary, as the `tokenizers` library writes it in JSON: "vocab", and for pairs "merges".
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import tokenizers
from tokenizers import models, trainers

from rnn_jax.errors import InputError, require

Learned: TypeAlias = "dict[str, Any]"

PAD, UNK = 0, 1
SPECIAL_WORDS = ("[PAD]", "[UNK]")
SUBWORDS = ("bpe", "unigram")  # kinds of tokenisers whose words come in pieces
MARK = "\u2581"  # a piece that begins a word begins with this sign
BPE_FIELDS = ("vocab", "merges")
NOTHING: Learned = {"vocab": {}}
# Of each byte the character that stands for it in the library's files (Radford et al. 2019, GPT-2): itself
# where it can be seen, and else one from 256 on.
SEEN = {*range(33, 127), *range(161, 173), *range(174, 256)}
UNSEEN = sorted({*range(256)} - SEEN)
BYTES = "".join(chr(byte if byte in SEEN else 256 + UNSEEN.index(byte)) for byte in range(256))
ALL_BYTES: Learned = {"vocab": {word: index for index, word in enumerate([*SPECIAL_WORDS, *BYTES])}}
STEP = 1e-4  # between the scores that the library gives to characters which the training left without one


def learn(kind: str, backend: tokenizers.Tokenizer, texts: Iterable[str], vocab_size: int) -> Learned:
    """Returns what a tokeniser of a kind learns from texts, the same in every process.

    Args:
      kind: "bpe", "unigram", "bytes", which takes all bytes whatever the texts, or else whole words.
      backend: splits texts; its model is trained, and not used any more.
      texts: strings that UTF-8 can hold.
      vocab_size: the most ids, PAD and UNK included.

    Raises:
      InputError: a unigram model of fewer pieces than the texts have characters, or fewer ids than bytes.
    """
    if kind == "bytes":
        count = len(ALL_BYTES["vocab"])
        require(vocab_size >= count, f"text.vocab_size is {vocab_size}, but bytes have {count} ids; raise it")
        return ALL_BYTES
    options: dict[str, Any] = {"special_tokens": list(SPECIAL_WORDS), "show_progress": False}
    if kind == "bpe":
        # The least frequent characters are unknown where there are too many of them.
        limit = vocab_size - len(SPECIAL_WORDS)
        trainer: Any = trainers.BpeTrainer(vocab_size=vocab_size, limit_alphabet=limit, **options)
    elif kind == "unigram":
        trainer = trainers.UnigramTrainer(vocab_size=vocab_size, unk_token=SPECIAL_WORDS[UNK], **options)
    else:
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, **options)
    try:
        backend.train_from_iterator(texts, trainer)
    except Exception as error:  # the library has no class of its own for it
        raise _too_small(vocab_size) if "contain all chars" in str(error) else error from error
    if kind not in SUBWORDS:
        return {"vocab": backend.get_vocab()}
    model = json.loads(backend.to_str())["model"]
    if kind == "bpe":
        return {name: model[name] for name in BPE_FIELDS}
    learned = _in_order(model["vocab"])
    if len(learned["vocab"]) > vocab_size:
        raise _too_small(vocab_size)
    return learned


def _too_small(vocab_size: int) -> InputError:
    return InputError(
        f"text.vocab_size is {vocab_size:,}, fewer than the characters of the texts to train on, each of "
        "which is a piece of a unigram model; raise it, or set text.tokenizer to 'bpe'"
    )


def _in_order(pieces: list[list[Any]]) -> Learned:
    """Returns a unigram model's pieces in one order, with scores that do not depend on a table's order.

    The library walks over tables whose order differs from process to process: sums differ in their last
    digits, and characters that the training left without a score get scores in the order of a table.
    """
    special, rest = pieces[: len(SPECIAL_WORDS)], pieces[len(SPECIAL_WORDS) :]
    least = min((score for _, score in rest), default=0.0)
    singles = sum(len(piece) == 1 for piece, _ in rest)
    scores = {
        piece: round(least if len(piece) == 1 and score < least + STEP * (singles + 1) else score, 4)
        for piece, score in rest
    }
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return {"vocab": [*special, *map(list, ordered)]}


def model_of(kind: str, learned: Learned) -> "models.Model":
    """Returns the model of the library that splits words by what was learned."""
    if kind == "bpe":
        merges = [(first, second) for first, second in learned.get("merges", ())]
        return models.BPE(learned["vocab"], merges, unk_token=SPECIAL_WORDS[UNK])
    if kind == "unigram":
        pieces = learned["vocab"] or [(word, 0.0) for word in SPECIAL_WORDS]
        return models.Unigram([(piece, score) for piece, score in pieces], unk_id=UNK)
    return models.WordLevel(learned["vocab"], unk_token=SPECIAL_WORDS[UNK])


def filled(kind: str, learned: Learned, vocab_size: int) -> Learned:
    """Returns what was learned with words that no text has, so that there are `vocab_size` ids.

    >>> filled("words", {"vocab": {"[PAD]": 0, "[UNK]": 1}}, 3)["vocab"]
    {'[PAD]': 0, '[UNK]': 1, '[UNUSED 2]': 2}
    """
    vocabulary = learned["vocab"]
    unused = {f"[UNUSED {index}]": index for index in range(len(vocabulary), vocab_size)}
    if kind != "unigram":
        return learned | {"vocab": vocabulary | unused}
    least = min(score for _, score in vocabulary)
    return {"vocab": [*vocabulary, *([word, least] for word in unused)]}


def taken_from(model: Mapping[str, Any]) -> tuple[Learned, dict[str, Any]]:
    """Returns what was learned, of the JSON of a model, and the rest of it.

    Raises:
      InputError: what is there could not have been learned here; the library ends the process on some of it.
    """
    rest, found = dict(model), {name: model[name] for name in BPE_FIELDS if name in model}
    for name in found:
        del rest[name]
    unigram = isinstance(found["vocab"], list)
    words = _pieces(found["vocab"]) if unigram else _numbered(found["vocab"])
    special = tuple(words[: len(SPECIAL_WORDS)])
    require(special == SPECIAL_WORDS, f"ids 0 and 1 are {str(special)[:100]}, not {SPECIAL_WORDS}")
    encodable = all(word == word.encode("utf-8", "replace").decode("utf-8") for word in words)
    require(encodable, "a word has half of a surrogate pair")
    if "merges" in found:
        found["merges"] = _merges(found["merges"], set(words))
    return found, rest


def _numbered(vocabulary: Any) -> list[str]:
    """Returns the words in the order of their numbers."""
    known = isinstance(vocabulary, dict) and all(type(index) is int for index in vocabulary.values())
    require(known, "it has no vocabulary: a number for each word")
    counted = sorted(vocabulary.values()) == list(range(len(vocabulary)))
    require(counted, "the numbers of its words are not 0, 1, 2, ..., each once")
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _pieces(vocabulary: list[Any]) -> list[str]:
    """Returns the pieces of a unigram model, each a string that is not empty, with a finite score."""
    fits = all(
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and entry[0]
        and isinstance(entry[1], float | int)
        and math.isfinite(entry[1])
        for entry in vocabulary
    )
    require(fits, "its vocabulary is no list of pieces, each with its score")
    words = [piece for piece, _ in vocabulary]
    require(len(set(words)) == len(words), "a piece stands twice in its vocabulary")
    return words


def _merges(merges: Any, words: set[str]) -> list[list[str]]:
    """Returns the pairs of pieces that byte-pair encoding joins; pairs and what they make are known."""
    require(isinstance(merges, list), "its merges are no list of pairs")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    fits = all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(part, str) and part in words for part in pair)
        and "".join(pair) in words
        for pair in pairs
    )
    require(fits, "one of its merges is no pair of known pieces that make a known one")
    return pairs
