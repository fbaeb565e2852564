"""An offline stand-in for CLIP: what ImageNet's classes say of a frame, in the space of a sentence encoder.

A frame is the sentence vectors of the classes that EfficientNet-lite0 finds likeliest, weighted by how likely they are; a
text is its own sentence vector. It is no CLIP, and knows only what the names of a thousand classes cover.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitascope.nn.clip import middle_square, prompts_of
from vitascope.nn.lite0 import WholeLite0, whole_state
from vitascope.nn.loading import compare, load_weights

NAMES = Path(__file__).parent / "weights" / "imagenet_classes.txt"  # by index
SENTENCES = ("model.safetensors", "config.json", "tokenizer.json")
LIKELIEST = 10  # classes that a frame is told by
IMAGE_SIZE = 224
CHUNK = 100  # class names read at once


class StandIn(nn.Module):
    """An `ImageText` of a classifier and a sentence encoder.

    Args:
        network: A picture in [0, 1] -> its vector.
        classes: That vector -> logits of the classes.
        bert: `transformers.BertModel`; the mean of what it says of all tokens of a text is the text's vector.
        tokenizer: `tokenizers.Tokenizer` of that model.
        names: Of the classes, in the order of their logits.

    Attributes:
        names: Vectors of the class names, `[classes, D]`, of length 1.

    Raises:
        ValueError: There are more or fewer names than classes, or the tokenizer is not of a BERT.
    """

    def __init__(
        self, network: WholeLite0, classes: nn.Linear, bert: nn.Module, tokenizer: object, names: Sequence[str]
    ) -> None:
        super().__init__()
        if len(names) != classes.out_features:
            raise ValueError(f"names ({len(names)}) must be as many as the classes ({classes.out_features})")
        self.network = network.to(memory_format=torch.channels_last)  # 1.8 times as fast on a CPU
        self.classes, self.bert, self.tokenizer = classes, bert, tokenizer
        self.dim = self.token_width = bert.config.hidden_size
        self.max_tokens, self.image_size = bert.config.max_position_embeddings, IMAGE_SIZE
        self.around = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        if None in self.around:
            raise ValueError("tokenizer has no [CLS] or no [SEP]; give the one of the sentence encoder")
        tokenizer.no_padding()  # some files ask for 128 tokens, whatever the text
        tokenizer.no_truncation()
        self.eval()
        with torch.no_grad():
            tokens = [self.tokens(name) for name in names]
            parts = [self.encode_text(tokens[at : at + CHUNK]) for at in range(0, len(tokens), CHUNK)]
        self.register_buffer("names", F.normalize(torch.cat(parts), dim=1), persistent=False)

    def encode_image(self, frames: Tensor) -> Tensor:
        """Vectors of frames, as `Clip.encode_image`: of the ten likeliest classes, weighted by their probabilities."""
        logits = self.classes(self.network(middle_square(frames, self.image_size) / 255))  # [B, classes]
        likeliest, which = logits.topk(LIKELIEST, dim=1)  # [B, 10]
        return (likeliest.softmax(1)[..., None] * self.names[which]).sum(1)

    def tokens(self, name: str) -> Tensor:
        """Token ids of a text, int64 `[n]`, without start and end."""
        return torch.tensor(self.tokenizer.encode(name, add_special_tokens=False).ids, dtype=torch.int64)

    def encode_text(
        self,
        tokens: Sequence[Tensor],
        prefix: Tensor | None = None,
        postfix: Tensor | None = None,
        positional: bool = False,
        num_postfix: int | None = None,
    ) -> Tensor:
        """Vectors of texts, each read as `[CLS], prefix, its tokens, postfix, [SEP]`; arguments as of `Clip.encode_text`.

        Returns:
            float32 `[K, D]`, not normalised: the mean of the outputs at all of these places.

        Raises:
            ValueError: A prompt is longer than `max_tokens`, there are no texts, or vectors are of a wrong shape.
        """
        vectors = prefix, postfix, positional, num_postfix
        table = self.bert.get_input_embeddings()
        x, lengths = prompts_of(tokens, table, self.around, self.max_tokens, *vectors)  # [K, N, W], [K]
        is_real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # [K, N]
        x = self.bert(inputs_embeds=x, attention_mask=is_real.long()).last_hidden_state
        return (x * is_real[..., None]).sum(1) / lengths[:, None]


def is_standin(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder of a stand-in, complete or not: one with the `config.json` of a BERT.

    Raises:
        ValueError: That file is damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     before = is_standin(folder)
        ...     _ = (Path(folder) / "config.json").write_text('{"model_type": "bert"}')
        ...     before, is_standin(folder)
        (False, True)
    """
    config = Path(path) / "config.json"
    return config.is_file() and read_config(config).get("model_type") == "bert"


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        ValueError: The file is damaged, or holds something else.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "config.json").write_text('{"layers": 2}')
        ...     read_config(Path(folder) / "config.json")
        {'layers': 2}
    """
    try:
        about = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); copy the file again from its source") from None
    if not isinstance(about, dict):
        raise ValueError(
            f"{path} ({type(about).__name__}) must be an object of names and values; "
            "copy the file again from its source"
        )
    return about


def load_standin(folder: str | os.PathLike[str]) -> StandIn:
    """The stand-in of a folder, frozen and ready to encode.

    Args:
        folder: With a sentence encoder in the layout of transformers (`model.safetensors`, `config.json` and
            `tokenizer.json`), and beside it the one file of an EfficientNet-lite0 (`.pth` or `.safetensors`).

    Returns:
        The networks in float32, with no parameter that learns.

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: It holds several classifiers, weights of other networks, or a damaged file.
    """
    folder = Path(folder)
    others = [
        path for path in folder.iterdir() if path.suffix in (".pth", ".safetensors") and path.name not in SENTENCES
    ]
    lacking = [name for name in SENTENCES if not (folder / name).is_file()]
    lacking += [] if others else ["a file of EfficientNet-lite0"]
    wanted = (
        f"it must hold {', '.join(SENTENCES)} of a sentence encoder and one EfficientNet-lite0 (.pth or .safetensors)"
    )
    if lacking:
        raise FileNotFoundError(f"stand-in for CLIP ({folder}) lacks {' and '.join(lacking)}; {wanted}")
    if len(others) > 1:
        names = ", ".join(sorted(path.name for path in others))
        raise ValueError(f"stand-in for CLIP ({folder}) holds {len(others)} classifiers ({names}); {wanted}")
    network, classes = _classifier(others[0])
    names = NAMES.read_text(encoding="utf-8").splitlines()
    return StandIn(network, classes, _bert(folder), _tokenizer(folder), names).eval().requires_grad_(False)


def _classifier(path: Path) -> tuple[WholeLite0, nn.Linear]:
    network, classes, given = WholeLite0(), nn.Linear(WholeLite0.dim, 1000), load_weights(path)
    network.load_state_dict(whole_state(path))
    last = {name: given[f"_fc.{name}"] for name in ("weight", "bias") if f"_fc.{name}" in given}
    report = compare(last, classes.state_dict())
    if not report.fits:
        raise ValueError(
            f"weights ({path}) have no layer _fc of 1000 classes ({report}); give EfficientNet-lite0's, whole"
        )
    classes.load_state_dict(last)
    return network, classes


def _tokenizer(folder: Path) -> object:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # that is what tokenizers raises
        raise ValueError(f"{path} is no tokenizer ({error}); copy the file again from its source") from None


def _bert(folder: Path) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = folder / "config.json"
    about = read_config(config)
    try:
        bert = BertModel(BertConfig(**about), add_pooling_layer=False)
    except Exception as error:  # transformers checks with errors of its own, of several lines
        raise ValueError(
            f"{config} describes no BERT that can be built ({' '.join(str(error).split())}); "
            "copy the file again from its source"
        ) from None
    path = folder / "model.safetensors"
    named = {name.removeprefix("bert."): tensor for name, tensor in load_weights(path).items()}
    beside = ("pooler.", "cls.", "embeddings.position_ids")  # no part of a sentence's vector
    given = {name: tensor.float() for name, tensor in named.items() if not name.startswith(beside)}
    report = compare(given, bert.state_dict())
    if not report.fits:
        raise ValueError(f"weights ({path}) are not of the BERT of config.json: {report}")
    bert.load_state_dict(given)
    return bert
