"""The two towers against transformers' code with the same random weights, and prompts with vectors put in."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from vitascope.datasets.worlds.actions import ACTIONS
from vitascope.datasets.worlds.untrimmed import UntrimmedWorld
from vitascope.nn.bpe import Words, byte_pairs, find_tokenizer
from vitascope.nn.clip import Clip, middle_square
from vitascope.nn.clip_files import TINY, load_clip, load_tiny
from vitascope.nn.torchscript import is_torchscript, torchscript_tensors

WORDS = 48  # of the vocabulary, besides start and end
SIZES = {
    "dim": 16,
    "image_size": 32,
    "patch_size": 8,
    "image_width": 128,
    "image_depth": 2,
    "image_heads": 2,
    "vocabulary_size": WORDS + 2,
    "max_tokens": 77,
    "token_width": 64,
    "text_depth": 2,
    "text_heads": 1,
}


def transformers_clip(**text):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"vocab_size": WORDS + 2, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2} | text
    text |= {"num_attention_heads": 2, "bos_token_id": text["vocab_size"] - 2, "eos_token_id": text["vocab_size"] - 1}
    image = {"hidden_size": 32, "intermediate_size": 60, "num_hidden_layers": 3, "num_attention_heads": 4}
    image |= {"image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=16)).eval()
    with torch.no_grad():  # transformers' own first weights leave biases at 0 and norms at 1
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def theirs():
    return transformers_clip()


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    theirs.save_pretrained(folder)
    return load_clip(folder)


def names():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, WORDS, (n,), generator=generator) for n in (3, 1, 7)]


def text_of(model, prompts):
    """transformers' vectors of prompts given as ids with start and end, padded with the end token as CLIP does."""
    longest, end = max(map(len, prompts)), model.config.text_config.eos_token_id
    ids = torch.tensor([[*prompt, *[end] * (longest - len(prompt))] for prompt in prompts])
    with torch.no_grad():
        return model.get_text_features(ids).pooler_output


def test_the_text_tower_is_transformers(theirs, ours):
    prompts = [[WORDS, *name.tolist(), WORDS + 1] for name in names()]
    torch.testing.assert_close(ours.encode_text(names()), text_of(theirs, prompts), rtol=1e-4, atol=1e-5)


def test_the_image_tower_is_transformers(theirs, ours):
    frames = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    pixels = (frames / 255 - ours.mean) / ours.std
    with torch.no_grad():
        expected = theirs.get_image_features(pixels).pooler_output
    torch.testing.assert_close(ours.encode_image(frames), expected, rtol=1e-4, atol=1e-5)


def test_gelu_and_quick_gelu_are_told_apart(tmp_path):
    model = transformers_clip(hidden_act="gelu")
    model.config.vision_config.hidden_act = "gelu"
    model.save_pretrained(tmp_path)
    prompts = [[WORDS, 4, 5, WORDS + 1]]
    got = load_clip(tmp_path).encode_text([torch.tensor([4, 5])])
    torch.testing.assert_close(got, text_of(model, prompts), rtol=1e-4, atol=1e-5)
    assert load_clip(tmp_path).visual.transformer.resblocks[0].mlp.activation == "gelu"


@pytest.mark.parametrize("positional", [False, True])
def test_a_prompt_is_start_prefix_name_postfix_end(positional):
    """transformers cannot take vectors, but a word for each of them: the last 77 + 4 of a larger vocabulary."""
    extra, before, after = 77 + 4, 4, 3
    size = WORDS + extra + 2
    model = transformers_clip(vocab_size=size)
    table = model.text_model.embeddings.token_embedding.weight.detach()
    words = list(range(WORDS, WORDS + extra))  # their ids
    prefix, places = table[words[:before]], words[before:]
    prompts = []
    for name in names():
        at = 1 + before + len(name) if positional else 0
        prompts.append([size - 2, *words[:before], *name.tolist(), *places[at : at + after], size - 1])
    clip = Clip(**text_sizes(model))
    clip.load_state_dict(load_text(model, clip))
    postfix = table[places] if positional else table[places[:after]]
    got = clip.encode_text(names(), prefix, postfix, positional, num_postfix=after)
    torch.testing.assert_close(got, text_of(model, prompts), rtol=1e-4, atol=1e-5)


def text_sizes(model):
    text = model.config.text_config
    return SIZES | {"vocabulary_size": text.vocab_size, "token_width": 24, "text_hidden": 40, "text_heads": 2}


def load_text(model, clip):
    from vitascope.nn.clip_files import _from_transformers

    given = {k: v for k, v in _from_transformers(model.state_dict()).items() if not k.startswith("visual.")}
    return clip.state_dict() | given


def test_the_end_sees_all_of_its_prompt_and_nothing_behind_it(ours):
    short, long = torch.tensor([3, 4]), torch.arange(9)
    together = ours.encode_text([short, long])
    torch.testing.assert_close(together[:1], ours.encode_text([short]))  # not the padding that a longer name brings
    for place in range(2):
        other = short.clone()
        other[place] = 30
        assert (ours.encode_text([other]) - together[0]).abs().max() > 1e-3
    prefix, postfix = torch.randn(2, 5, ours.token_width)
    assert (ours.encode_text([short], prefix, postfix) - ours.encode_text([short], prefix)).abs().max() > 1e-3


def test_gradients_reach_the_vectors_and_no_parameter(ours):
    prefix, table = nn.Parameter(torch.randn(4, 24)), nn.Parameter(torch.randn(77, 24))
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    ours.encode_text(names(), prefix, table, positional=True).square().sum().backward()
    assert (prefix.grad.abs().sum(1) > 0).all()
    used = set(torch.nonzero(table.grad.abs().sum(1)).flatten().tolist())
    assert used == {at for n in (3, 1, 7) for at in range(5 + n, 9 + n)}  # the places behind each name
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in ours.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in ours.state_dict().items())


def test_too_long_a_prompt_and_wrong_vectors_are_refused(ours):
    vectors = torch.zeros(16, ours.token_width)
    assert ours.encode_text([torch.arange(43)], vectors, vectors).shape == (1, 16)
    with pytest.raises(ValueError, match=r"prompt of 78 tokens \(44 of its text, 16 vectors before, 16 after.*<= 77"):
        ours.encode_text([torch.arange(44)], vectors, vectors)
    with pytest.raises(ValueError, match=r"prefix of shape \[16, 5\] must be \[vectors, 24\]"):
        ours.encode_text(names(), torch.zeros(16, 5))
    with pytest.raises(ValueError, match=r"postfix has 16 vectors, must be 77"):
        ours.encode_text(names(), vectors, vectors, positional=True)
    with pytest.raises(ValueError, match="tokens hold no text"):
        ours.encode_text([])
    with pytest.raises(ValueError, match=r"frames \(torch.float32 \[1, 3, 8, 8\]\) must be uint8"):
        ours.encode_image(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"text \('run'\) cannot be cut .* without a vocabulary"):
        ours.tokens("run")


def test_frames_are_scaled_as_transformers_scales_them():
    from PIL import Image

    generator = torch.Generator().manual_seed(2)
    small = torch.randint(0, 256, (1, 3, 9, 12), generator=generator, dtype=torch.uint8).float()
    frames = nn.functional.interpolate(small, (90, 120), mode="bicubic").clamp(0, 255).to(torch.uint8)
    picture = Image.fromarray(frames[0].permute(1, 2, 0).numpy())
    picture = picture.resize((42, 32), Image.Resampling.BICUBIC).crop((5, 0, 37, 32))
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    assert (middle_square(frames, 32)[0] - expected).abs().max() <= 1


# Files


@pytest.fixture
def state():
    torch.manual_seed(3)
    return Clip(**SIZES).state_dict()


def same(clip, state):
    expected = Clip(**SIZES, activation=clip.visual.transformer.resblocks[0].mlp.activation)
    expected.load_state_dict(state)
    frames, half = torch.randint(0, 256, (1, 3, 40, 32), dtype=torch.uint8), {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(clip.encode_image(frames), expected.encode_image(frames), **half)
    torch.testing.assert_close(clip.encode_text(names()), expected.encode_text(names()), **half)


OPENAI = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(50)}


def test_an_openai_state_dict_is_read(state, tmp_path):
    torch.save({name: tensor.half() for name, tensor in state.items()} | OPENAI, tmp_path / "ViT.pt")
    clip = load_clip(tmp_path / "ViT.pt")
    same(clip, state)
    assert not clip.training and {p.dtype for p in clip.parameters()} == {torch.float32}


def test_an_openai_program_is_read_and_not_run(state, tmp_path):
    class Root(nn.Module):
        def forward(self, x):
            return x

    root, mask = Root(), {"transformer.resblocks.0.attn_mask": torch.zeros(77, 77)}
    for name, tensor in (state | OPENAI | mask).items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if not hasattr(node, part):
                node.add_module(part, Root())
            node = getattr(node, part)
        node.register_buffer(leaf, tensor.clone())
    torch.jit.save(torch.jit.script(root.half()), tmp_path / "ViT-B-16.pt")
    same(load_clip(tmp_path / "ViT-B-16.pt"), state)
    torch.jit.save(torch.jit.script(Odd()), tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="are no TorchScript archive of plain tensors"):
        (tmp_path / "cut.pt").write_bytes((tmp_path / "odd.pt").read_bytes()[:700])
        torchscript_tensors(tmp_path / "cut.pt")


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.numbers, self.register = [1, 2], {"a": 1.5}
        self.weight = nn.Parameter(torch.arange(6.0).view(2, 3).T)

    def forward(self, x):
        return x


def test_a_program_keeps_strides_and_lists(tmp_path):
    torch.jit.save(torch.jit.script(Odd()), tmp_path / "odd.pt")
    tensors = torchscript_tensors(tmp_path / "odd.pt")
    assert list(tensors) == ["weight"] and torch.equal(tensors["weight"], Odd().weight)


def test_a_program_with_foreign_objects_is_refused(tmp_path):
    import pickle
    import zipfile

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/code/x.py", "")
        archive.writestr("evil/data.pkl", pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="it holds __builtin__.print"):
        load_clip(tmp_path / "evil.pt")


def test_a_program_that_reaches_beyond_its_numbers_or_nests_without_end_is_refused(tmp_path):
    import zipfile

    node = b"c__torch__\nModule\n)\x81"
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x64\x85K\x01\x85I00\nNtR"
    contents = {
        "beyond.pt": b"\x80\x02" + node + b"}U\x06weight" + tensor + b"sb.",
        "deep.pt": b"\x80\x02" + (node + b"}U\x01a") * 3000 + node + b"sb" * 3000 + b".",
    }
    for name, content in contents.items():
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x/data.pkl", content)
            archive.writestr("x/data/0", bytes(8))
        with pytest.raises(ValueError, match=rf"{name}\) are no TorchScript archive of plain tensors"):
            torchscript_tensors(tmp_path / name)


def test_a_damaged_zip_is_no_program(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/x.py", "")
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content.replace(b"PK\x01\x02", b"PK\x00\x00"))
    assert zipfile.is_zipfile(tmp_path / "a.pt") and not is_torchscript(tmp_path / "a.pt")


def test_open_clip_files_are_read(state, tmp_path):
    from safetensors.torch import save_file

    config = {"vision_cfg": {"image_size": 32, "head_width": 64}, "text_cfg": {"heads": 1}}
    text = {name: f"text.{name}" for name in state if not name.startswith(("visual.", "logit_scale"))}
    named = {text.get(name, name): tensor for name, tensor in state.items()} | {"logit_bias": torch.zeros(())}
    save_file(named, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=r"do not tell their activation .* open_clip_config.json is not beside them"):
        load_clip(tmp_path)
    norm = {"mean": [0.5] * 3, "std": [0.5] * 3}
    text_of_config = json.dumps({"model_cfg": config, "preprocess_cfg": norm})
    (tmp_path / "open_clip_config.json").write_text(text_of_config)
    clip = load_clip(tmp_path)
    assert clip.mean.flatten().tolist() == [0.5] * 3
    assert clip.visual.transformer.resblocks[0].mlp.activation == "gelu"
    clip.mean, clip.std = (buffer for buffer in (Clip(**SIZES).mean, Clip(**SIZES).std))
    same(clip, state)


def test_a_training_checkpoint_of_open_clip_is_read(state, tmp_path):
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "epoch_3.pt")
    config = {"quick_gelu": True, "vision_cfg": {"image_size": 32}, "text_cfg": {"heads": 1}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    same(load_clip(tmp_path / "epoch_3.pt"), state)


def test_what_is_no_clip_is_refused_in_a_sentence(state, tmp_path):
    with pytest.raises(FileNotFoundError, match="give 'tiny', or a local folder or file"):
        load_clip(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        load_clip(tmp_path)
    torch.save({"visual.layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "RN50.pt")
    with pytest.raises(ValueError, match="no CLIP with a vision transformer"):
        load_clip(tmp_path / "RN50.pt")
    torch.save({k: v for k, v in state.items() if "text_projection" not in k} | OPENAI, tmp_path / "image.pt")
    with pytest.raises(ValueError, match=r"no whole CLIP \(no text_projection\)"):
        load_clip(tmp_path / "image.pt")
    with pytest.raises(ValueError, match=r"several weights \(RN50.pt, image.pt\); give the path of one"):
        load_clip(tmp_path)
    torch.save({k: v for k, v in state.items() if k != "visual.ln_pre.bias"} | OPENAI, tmp_path / "cut.pt")
    with pytest.raises(ValueError, match="not of such a CLIP: .*1 missing: visual.ln_pre.bias"):
        load_clip(tmp_path / "cut.pt")
    with pytest.raises(FileNotFoundError, match="came without its weights"):
        load_tiny(tmp_path / "tiny.safetensors")


# The tiny one


@pytest.fixture(scope="module")
def tiny():
    return load_clip("tiny")


def test_the_tiny_clip_is_small_and_frozen(tiny):
    assert TINY.stat().st_size <= 8e6
    assert not tiny.training and not any(parameter.requires_grad for parameter in tiny.parameters())
    vectors = torch.zeros(16, tiny.token_width)
    assert tiny.encode_text([tiny.tokens("orbit")], vectors, vectors).shape == (1, tiny.dim)
    with pytest.raises(ValueError, match=r"text \('high jump'\) has words that this CLIP never saw \(high, jump\)"):
        tiny.tokens("high jump")


def test_the_tiny_clip_tells_by_the_names_of_actions_which_prop_is_seen(tiny):
    world = UntrimmedWorld(num_videos=12, seed=9100, size=96, seconds=12.0, fps=2.0, num_topics=12, props=True)
    texts = nn.functional.normalize(tiny.encode_text([tiny.tokens(action) for action in ACTIONS]), dim=1)
    right = []
    for index, video in enumerate(world):
        images = torch.cat([tiny.encode_image(torch.from_numpy(chunk)) for chunk in world.render(index)])
        best = (nn.functional.normalize(images, dim=1) @ texts.T).argmax(1).tolist()
        for time, found in zip(video.times_seconds, best, strict=True):
            inside = (video.props.times_seconds[:, 0] < time - 0.2) & (video.props.times_seconds[:, 1] > time + 0.2)
            if inside.sum() == 1:
                right.append(ACTIONS[found] == video.props.labels[inside.argmax()])
    assert len(right) > 100 and np.mean(right) > 0.7  # chance is 1/12


# Tokens


def test_byte_pairs_are_transformers(tmp_path):
    from transformers import CLIPTokenizer

    merges = ["h i", "hi g", "hig h</w>", "j u", "m p</w>", "ju mp</w>", "Ã ¼", "s h", "sh o", "sho t</w>"]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    from vitascope.nn.bpe import _merges, _vocabulary

    vocabulary = _vocabulary(_merges(merges))
    assert len(vocabulary) == 512 + len(merges) + 2
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    cut, expected = find_tokenizer(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    for text in ("high jump", "High  Jump!!", "shot put 2024", "it's Über-naïve…", "a\n\tb", "x</w>", "日本"):
        assert cut(text) == expected(text)["input_ids"][1:-1], text
    assert cut("high") == [vocabulary["high</w>"]]


def test_the_vocabulary_of_a_file_of_merges_is_openais():
    from vitascope.nn.bpe import _vocabulary

    table = _vocabulary([("i", "n"), ("t", "h")])
    assert (table["!"], table["!</w>"], table["a"], table["in"], table["th"]) == (0, 256, 64, 512, 513)
    assert (table["<|startoftext|>"], table["<|endoftext|>"]) == (514, 515)
    assert byte_pairs(table, [("i", "n")])("in") == [table["i"], table["n</w>"]]


def test_openais_file_of_merges_is_found_beside_the_weights(tmp_path):
    import gzip

    with gzip.open(tmp_path / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write('"bpe_simple_vocab_16e6.txt#version: 0.2\ni n</w>\nt h\n')
    assert find_tokenizer(tmp_path)("IN th") == [512, ord("t") - 33, 256 + ord("h") - 33]  # no merge of `th</w>`
    assert find_tokenizer(tmp_path / "absent") is None


def test_damaged_vocabularies_are_refused_by_name(tmp_path):
    import gzip

    whole = gzip.compress(b"#version: 0.2\ni n</w>\n" * 99)
    for name, content in (
        ("bpe_simple_vocab_16e6.txt.gz", whole[:-9]),
        ("bpe_simple_vocab_16e6.txt.gz", b"<html>"),
        ("tokenizer.json", b'{"version": "1.0", "mod'),
        ("vocab.json", b'{"i": 0}'),
        ("vocab.json", b'{"i": '),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / name).write_bytes(content)
        (folder / "merges.txt").write_text("#version: 0.2\ni n</w>\n")
        with pytest.raises(ValueError, match=f"{folder / name}.* cannot be read as CLIP's vocabulary"):
            find_tokenizer(folder)


def test_words_beyond_a_small_vocabulary_are_named():
    words = Words(["orbit", "star"])
    assert words("Orbit star") == [0, 1] and words.size == 4
    with pytest.raises(ValueError, match=r"never saw \(high, jump\); it knows: orbit, star; .* real CLIP"):
        words("high jump orbit")
    with pytest.raises(ValueError, match="it has none at all"):
        words(" ")
