"""The stand-in for CLIP against literal re-statements, with random weights in the layout of a user's folder."""

import json
import shutil

import pytest
import torch
from torch import nn

from vitascope.methods.cbp_vlp.encoders import make_encoder
from vitascope.nn.clip_files import load_clip
from vitascope.nn.lite0 import WholeLite0, _names, whole_state
from vitascope.nn.standin import NAMES, StandIn, load_standin

WIDTH, PLACES = 24, 40
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "great", "shark", "##s"]
VOCABULARY += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" if letter != "s"]


def write_sentences(folder):
    """A sentence encoder in transformers' layout, whose tokenizer pads to 16 tokens as that of MiniLM does to 128."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"vocab_size": len(VOCABULARY), "hidden_size": WIDTH, "intermediate_size": 40, "num_hidden_layers": 2}
    config = BertConfig(**sizes, num_attention_heads=2, max_position_embeddings=PLACES)
    bert = BertModel(config).eval()
    with torch.no_grad():  # transformers' own first weights leave biases at 0 and norms at 1
        for parameter in bert.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    bert.save_pretrained(folder)
    words = Tokenizer(models.WordPiece({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words.enable_padding(length=16)
    words.enable_truncation(3)
    words.save(str(folder / "tokenizer.json"))
    return bert


def write_classifier(path):
    """An EfficientNet-lite0 of random weights under the names of the package's file."""
    from vitascope.nn.lite0 import BLOCKS, LATE_BLOCKS

    torch.manual_seed(1)
    network, last = WholeLite0(), nn.Linear(WholeLite0.dim, 1000)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    names = [("trunk.stem.1", "_conv_stem"), ("trunk.stem.2", "_bn0"), *_names("trunk.stages", BLOCKS, 0)]
    names += [*_names("stages", LATE_BLOCKS, 11), ("head.1", "_conv_head"), ("head.2", "_bn1")]
    table = dict(names)
    state = {}
    for name, tensor in network.state_dict().items():
        part, _, leaf = name.rpartition(".")
        state[f"{table[part]}.{leaf}"] = tensor
    nn.init.normal_(last.weight, std=0.03)
    torch.save(state | {"_fc.weight": last.weight.detach(), "_fc.bias": last.bias.detach()}, path)
    return last


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standin")
    write_sentences(folder)
    write_classifier(folder / "lite0.pth")
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    return load_clip(folder)


@pytest.fixture(scope="module")
def bert(folder):
    from transformers import BertModel

    return BertModel.from_pretrained(folder).eval()


def sentence(bert, ids):
    """The mean of a BERT's outputs for one text, given with its start and end, read by itself."""
    with torch.no_grad():
        return bert(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)


def prompts(bert, texts):
    start, end = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
    return torch.stack([sentence(bert, [start, *ids, end]) for ids in texts])


def frames_of(*shape):
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(shape[0], 3, 6, 6, generator=generator)
    return (nn.functional.interpolate(coarse, shape[1:], mode="bilinear") * 255).to(torch.uint8)


def test_a_folder_with_a_sentence_encoder_is_the_stand_in(ours):
    assert isinstance(ours, StandIn)
    assert (ours.dim, ours.token_width, ours.max_tokens, ours.image_size) == (WIDTH, WIDTH, PLACES, 224)
    assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())
    assert not any(name.startswith("names") for name in ours.state_dict())


def test_tokens_are_word_pieces_without_start_end_and_padding(ours):
    words = [VOCABULARY[at] for at in ours.tokens("Great sharks jump")]
    assert words == ["great", "shark", "##s", "j", "##u", "##m", "##p"]
    assert ours.tokens("shark").dtype == torch.int64


def test_texts_are_the_means_of_berts_outputs_whatever_is_beside_them(ours, bert):
    texts = [ours.tokens("great sharks"), ours.tokens("a"), ours.tokens("a great jump")]
    expected = prompts(bert, [text.tolist() for text in texts])
    torch.testing.assert_close(ours.encode_text(texts), expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-2


@pytest.mark.parametrize("positional", [False, True])
def test_a_prompt_is_start_prefix_name_postfix_end(ours, bert, positional):
    table = bert.get_input_embeddings().weight.detach()
    before, places = [7, 9, 11], [5 + at % 30 for at in range(PLACES)]
    texts, wanted = [ours.tokens("great shark"), ours.tokens("a")], []
    for text in texts:
        at = 1 + len(before) + len(text) if positional else 0
        wanted.append([*before, *text.tolist(), *places[at : at + 2]])
    postfix = table[places] if positional else table[places[:2]]
    got = ours.encode_text(texts, table[before], postfix, positional, num_postfix=2)
    torch.testing.assert_close(got, prompts(bert, wanted), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_vectors_and_no_parameter(ours):
    prefix, postfix = (nn.Parameter(torch.randn(4, WIDTH)) for _ in range(2))
    ours.encode_text([ours.tokens("a"), ours.tokens("shark")], prefix, postfix)[:, 0].sum().backward()
    assert (prefix.grad.abs().sum(1) > 0).all() and (postfix.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_frames_are_their_ten_likeliest_classes_times_the_names(ours, bert, folder):
    frames = frames_of(2, 224, 224)
    network = WholeLite0().eval()
    network.load_state_dict(whole_state(folder / "lite0.pth"))
    last = torch.load(folder / "lite0.pth", weights_only=True)
    names = NAMES.read_text().splitlines()
    with torch.no_grad():
        logits = network(frames / 255) @ last["_fc.weight"].T + last["_fc.bias"]
    expected = torch.zeros(2, WIDTH)
    for picture, posterior in enumerate(logits.softmax(1)):
        best = sorted(range(1000), key=lambda at: -float(posterior[at]))[:10]
        total = sum(float(posterior[at]) for at in best)
        assert (
            posterior[best[-1]] > 0.02 * total and total < 0.95
        )  # neither an eleventh nor the lack of a tenth would pass
        for at in best:
            name = prompts(bert, [ours.tokens(names[at]).tolist()])[0]
            expected[picture] += float(posterior[at]) / total * name / name.norm()
    got = ours.encode_image(frames)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert got.dtype == torch.float32 and (got[0] - got[1]).abs().max() > 1e-2


def test_the_middle_square_of_a_frame_is_seen(ours):
    frames = frames_of(1, 224, 300)
    torch.testing.assert_close(ours.encode_image(frames), ours.encode_image(frames[..., 38:262].contiguous()))


def test_snippets_are_described_by_their_middle_frame(ours, folder):
    encoder = make_encoder("clip", folder)
    clip = frames_of(2, 224, 224)[None]
    torch.testing.assert_close(encoder.features(clip), ours.encode_image(clip[:, 1]))
    assert encoder.dim == WIDTH and encoder.snippet.size == 224


def test_too_long_a_prompt_and_wrong_inputs_are_refused(ours):
    vectors = torch.zeros(16, WIDTH)
    assert ours.encode_text([torch.full((6,), 5)], vectors, vectors).shape == (1, WIDTH)
    with pytest.raises(ValueError, match=r"prompt of 41 tokens \(7 of its text, 16 vectors before, 16 after.*<= 40"):
        ours.encode_text([torch.full((7,), 5)], vectors, vectors)
    with pytest.raises(ValueError, match=r"prefix of shape \[16, 5\] must be \[vectors, 24\]"):
        ours.encode_text([ours.tokens("a")], torch.zeros(16, 5))
    with pytest.raises(ValueError, match="postfix has 16 vectors, must be 40"):
        ours.encode_text([ours.tokens("a")], vectors, vectors, positional=True)
    with pytest.raises(ValueError, match="tokens hold no text"):
        ours.encode_text([])
    with pytest.raises(ValueError, match=r"frames \(torch.float32 \[1, 3, 8, 8\]\) must be uint8"):
        ours.encode_image(torch.zeros(1, 3, 8, 8))


def test_a_folder_that_lacks_a_piece_says_what_it_must_hold(folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(folder / "tokenizer.json", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"lacks model.safetensors and a file of EfficientNet-lite0; it must hold"
    ):
        load_clip(tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks a file of EfficientNet-lite0; .* and one EfficientNet-lite0"):
        load_clip(tmp_path)
    for name in ("b.pth", "a.pth"):
        shutil.copy(folder / "lite0.pth", tmp_path / name)
    with pytest.raises(
        ValueError, match=r"holds 2 classifiers \(a.pth, b.pth\); it must hold .* one EfficientNet-lite0"
    ):
        load_clip(tmp_path)


def test_weights_of_other_networks_are_refused(folder, tmp_path):
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    given = torch.load(folder / "lite0.pth", weights_only=True)
    torch.save({name: tensor for name, tensor in given.items() if name != "_fc.bias"}, tmp_path / "lite0.pth")
    with pytest.raises(ValueError, match=r"no layer _fc of 1000 classes \(.*1 missing: bias\)"):
        load_clip(tmp_path)
    torch.save(given, tmp_path / "lite0.pth")
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="are not of the BERT of config.json: .*unexpected: encoder.layer.1"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer.json", '{"version": "1.0", "mod', r"tokenizer.json is no tokenizer \(.*\); copy the file again"),
        ("tokenizer.json", "", r"tokenizer.json is no tokenizer \(.*\); copy the file again"),
        ("config.json", '{"model_type": "be', r"config.json is no JSON \(.*\); copy the file again"),
        ("config.json", "[]", r"config.json \(list\) must be an object .*; copy the file again"),
        (
            "config.json",
            '{"model_type": "bert", "hidden_size": "x"}',
            "config.json describes no BERT .*; copy the file",
        ),
        ("config.json", '{"model_type": "bert", "num_attention_heads": 0}', "config.json describes no BERT"),
    ],
)
def test_damaged_files_are_told_by_name(folder, tmp_path, name, content, told):
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / name).write_text(content)
    for load in (load_clip, load_standin):
        with pytest.raises(ValueError, match=told) as caught:
            load(tmp_path)
        assert str(tmp_path) in str(caught.value)


def test_there_are_a_thousand_names_of_words():
    names = NAMES.read_text(encoding="utf-8").splitlines()
    assert len(names) == 1000 and all(name == name.strip() and name and "_" not in name for name in names)
    assert [names[at] for at in (0, 207, 388, 805, 999)] == [
        "tench", "golden retriever", "giant panda", "soccer ball", "toilet tissue"
    ]  # fmt: skip
