"""Texts -> token ids: CLIP's byte pairs from local vocabulary files, and the words of a small vocabulary."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

Tokenizer = Callable[[str], list[int]]

SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
FILES = (("vocab.json", "merges.txt"), ("bpe_simple_vocab_16e6.txt.gz",), ("tokenizer.json",))  # the first is taken
OPENAI_SIZE = 49408  # tokens of CLIP, with start and end


class Words:
    """A vocabulary of whole words, in order of their ids; start and end follow after the last.

    Args:
        words: In lower case, each once.

    Example:
        >>> words = Words(["a", "blue", "star"])
        >>> words("A blue star!"), words.size
        ([0, 1, 2], 5)
        >>> words("a kite")
        Traceback (most recent call last):
        ...
        ValueError: text ('a kite') has words that this CLIP never saw (kite); it knows: a, blue, star; ...
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.ids = {word: k for k, word in enumerate(words)}

    @property
    def size(self) -> int:
        """Ids that there are, with start and end."""
        return len(self.ids) + 2

    def __call__(self, text: str) -> list[int]:
        words = re.findall(r"[^\W_]+", text.lower())
        unknown = sorted({word for word in words if word not in self.ids})
        if unknown or not words:
            raise ValueError(
                f"text ({text!r}) has words that this CLIP never saw ({', '.join(unknown) or 'it has none at all'}); "
                f"it knows: {', '.join(self.ids)}; for other words give a local folder of a real CLIP"
            )
        return [self.ids[word] for word in words]


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """CLIP's tokenizer from the files of a folder; None where it has none.

    Raises:
        ValueError: The files are damaged.
    """
    for names in FILES:
        paths = [folder / name for name in names]
        if not all(path.is_file() for path in paths):
            continue
        try:
            return _read(*paths)
        except ImportError:
            raise
        except Exception as error:  # that is what tokenizers raises
            told = " and ".join(map(str, paths))
            raise ValueError(
                f"{told} cannot be read as CLIP's vocabulary ({error}); copy from the source again"
            ) from None
    return None


def _read(path: Path, merges_path: Path | None = None) -> Tokenizer:
    """The tokenizer of one row of `FILES`."""
    from tokenizers import Tokenizer as Fast

    if merges_path is not None:
        lines = merges_path.read_text(encoding="utf-8").splitlines()
        return byte_pairs(json.loads(path.read_text(encoding="utf-8")), _merges(lines))
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8") as file:
            merges = _merges(file.read().splitlines())[: OPENAI_SIZE - 2 - 2 * 256]
        return byte_pairs(_vocabulary(merges), merges)
    fast = Fast.from_file(str(path))
    fast.no_padding()  # some files ask for as many tokens as a prompt has places
    fast.no_truncation()
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def byte_pairs(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """CLIP's tokenizer: lower case, words and single digits and signs, bytes of each merged by rank up to `</w>`.

    Args:
        vocabulary: Token -> id.
        merges: Pairs in order of rank.

    Example:
        >>> cut = byte_pairs({"a": 0, "b": 1, "b</w>": 2, "ab</w>": 3}, [("a", "b</w>")])
        >>> cut("AB  b"), cut("abab")
        ([3, 2], [0, 1, 3])
    """
    from tokenizers import Regex, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Fast
    from tokenizers.models import BPE

    fast = Fast(BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    fast.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return lambda text: fast.encode(text, add_special_tokens=False).ids


def _merges(lines: list[str]) -> list[tuple[str, str]]:
    """Pairs of a file of merges, whose first line is a comment."""
    pairs = (line.split() for line in lines if not line.startswith(("#version", '"bpe_simple')))
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """The ids that OpenAI's code gives: bytes, bytes that end a word, merges, start, end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [chr(256 + k) for k in range(256 - len(printable))]
    letters = [chr(byte) for byte in printable] + others
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    return {token: k for k, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
