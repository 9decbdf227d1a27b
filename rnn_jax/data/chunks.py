"""The ids of what stands between white space in a text, each computed once: the hot loop of the tokeniser.

No word and no piece of a word goes across white space, so the ids of a text are those of its chunks, one
after another. Most chunks of a text were in texts before it, and then cost one look into a dictionary.
"""

import re
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers

MOST = 2**17  # chunks that are kept, about 25 MB; then the half that came last goes
LONGEST = 64  # characters of a chunk that is kept: longer ones hardly come again
SEPARATORS = "\x1c\x1d\x1e\x1f"  # white space to Python, and not to the library
UNKNOWN = (1).to_bytes(4, sys.byteorder)

LINE_BREAK = r"(?i)<br\s*/?>"
# Words, one token a punctuation mark, and English contractions split as in the Penn Treebank and GloVe:
# "don't" is "do" and "n't", "it's" is "it" and "'s".
NEGATION, OTHER_WORDS = r"\w+?(?=n't)|n't", r"'(?:s|re|ve|ll|m|d)\b|\w+|[^\w\s]"
WORD_PATTERN = f"(?i){NEGATION}|{OTHER_WORDS}"
line_break = re.compile(LINE_BREAK)
# In ASCII the patterns mean the same to Python and to the library.
find_words = re.compile(WORD_PATTERN, re.ASCII).findall
find_other_words = re.compile(f"(?i){OTHER_WORDS}", re.ASCII).findall


class Chunks(dict[str, bytes]):
    """The ids of every chunk that was asked for, as the bytes of int32: they are joined faster than arrays.

    Attributes:
      backend: the tokeniser of the `tokenizers` library, whose words do not depend on what is around them.
      known: the ids of whole words; empty where words are not WORD_PATTERN's: the backend finds those.
      lowercase, strip_html: what the backend does to a text.

    >>> from rnn_jax.data.tokenizer import Tokenizer
    >>> tokenizer = Tokenizer.train(["a film, a film!"], vocab_size=100, lowercase=True, strip_html=False)
    >>> chunks = Chunks(tokenizer.backend, whole_words=True)
    >>> np.frombuffer(chunks["Film!"], np.int32).tolist(), "Film!" in chunks
    ([3, 4], True)
    """

    def __init__(self, backend: tokenizers.Tokenizer, whole_words: bool):
        """Takes a backend, and whether its words are those of WORD_PATTERN and whole."""
        super().__init__()
        self.backend = backend
        self.lowercase, self.strip_html = (
            backend.normalizer.normalize_str(text) == change for text, change in (("A", "a"), ("<br>", " "))
        )
        vocabulary = backend.get_vocab() if whole_words else {}
        self.known = {word: index.to_bytes(4, sys.byteorder) for word, index in vocabulary.items()}

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns int32[words] of each text; the texts can be UTF-8, and have no SEPARATORS."""
        if len(self) > MOST:
            for chunk in list(self)[MOST // 2 :]:  # what comes most comes early
                self.pop(chunk, None)
        self._learn(text for text in texts if not self._is_plain(text))
        return [
            np.frombuffer(bytearray().join(map(self.__getitem__, self._split(text))), np.int32)
            for text in texts
        ]

    def __missing__(self, chunk: str) -> bytes:
        ids = self._words(chunk) if self._is_plain(chunk) else self._encoded([chunk])[0]
        if len(chunk) <= LONGEST:
            self[chunk] = ids
        return ids

    def _words(self, chunk: str) -> bytes:
        """Returns the ids of an ASCII chunk of whole words."""
        folded = chunk.lower()
        written = folded if self.lowercase else chunk
        if folded.isalnum():
            return self.known.get(written, UNKNOWN)
        find = find_words if "n't" in folded else find_other_words
        return b"".join([self.known.get(word, UNKNOWN) for word in find(written)])

    def _split(self, text: str) -> list[str]:
        return (line_break.sub(" ", text) if self.strip_html and "<" in text else text).split()

    def _learn(self, texts: Iterable[str]) -> None:
        """Asks the backend, once and on all cores, for all new chunks that only it knows how to split."""
        chunks = set().union(*map(self._split, texts))
        new = [
            chunk
            for chunk in chunks
            if chunk not in self and len(chunk) <= LONGEST and not self._is_plain(chunk)
        ]
        if new:
            self.update(zip(new, self._encoded(new), strict=True))

    def _is_plain(self, text: str) -> bool:
        return bool(self.known) and text.isascii()

    def _encoded(self, chunks: list[str]) -> list[bytes]:
        encodings = self.backend.encode_batch_fast(chunks, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32).tobytes() for encoding in encodings]
