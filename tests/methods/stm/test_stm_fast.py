"""The form that only infers says what the trained network says; bfloat16 is used only where it is fast."""

import pytest
import torch
from literal_stm import calm_weights, scene
from torch import nn

from vitascope.methods.stm import fast, load_official
from vitascope.methods.stm.light import LightSTM
from vitascope.methods.stm.read import has_onednn, product


def random_light():
    torch.manual_seed(0)
    network = LightSTM().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and weights that folding must not overlook
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.2)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.7, 1.3)
    return network


@pytest.fixture(params=["resnet50", "small"])
def network(request):
    return load_official(calm_weights()) if request.param == "resnet50" else random_light()


def probabilities(network, dtype=torch.float32, size=(49, 66)):
    frames, masks = scene(3, *size, 2, 4, dtype)
    memory = [network.memorize(frames[t : t + 1], masks, 2) for t in range(2)]
    keys, values = (torch.stack(tensors, 2) for tensors in zip(*memory))
    return network.segment(frames[2:], keys, values, num_channels=4).softmax(1)


def test_folding_changes_nothing_in_float64_and_leaves_the_network_as_it_was(network):
    network.double()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected, prepared = probabilities(network, torch.float64), fast.prepare(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    torch.testing.assert_close(probabilities(prepared, torch.float64), expected, rtol=0, atol=1e-9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("size", [(49, 66), (16, 16), (5, 40)])
def test_the_prepared_network_in_float32_has_the_same_probabilities(network, size):
    prepared = fast.prepare(network)
    assert any(isinstance(module, fast.Fused) for module in prepared.modules()) == has_onednn()
    assert not any(p.requires_grad for p in prepared.parameters())
    expected, ours = probabilities(network, size=size), probabilities(prepared, size=size)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)  # random weights amplify rounding, and tie labels


def test_a_norm_is_folded_into_its_own_convolutions_only():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3)
            self.conv1_extra = nn.Conv2d(2, 4, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(4)
            self.row = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))

        def forward(self, x):
            return self.row(self.bn1(self.conv1(x) + self.conv1_extra(x)) + self.conv2(x))

    torch.manual_seed(0)
    module, x = Named().double(), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    for _ in range(5):
        module(x)  # the norms in training gather statistics
    module.eval()
    for norm in (module.bn1, module.row[1], module.row[3]):
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    expected, conv2 = module(x), module.conv2.weight.clone()
    fast.fold_norms(module)
    assert isinstance(module.bn1, nn.Identity) and isinstance(module.row[1], nn.Identity)
    assert isinstance(module.row[3], nn.BatchNorm2d)  # no convolution before it
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-12)
    assert torch.equal(module.conv2.weight, conv2)


def test_bf16_keeps_memory_narrow_and_probabilities_wide(network, monkeypatch):
    monkeypatch.setattr(fast, "bf16_gain", lambda device: 3.0)
    prepared = fast.prepare(network, bf16="auto")
    frames, masks = scene(1, 33, 48, 2, 4)
    keys, values = prepared.memorize(frames, masks, 2)
    assert keys.dtype == values.dtype == torch.bfloat16
    ours, expected = probabilities(prepared), probabilities(network)
    assert ours.dtype == torch.float32 and ours.isfinite().all()
    assert 0 < (ours - expected).abs().max() < 0.2 and (ours - expected).abs().mean() < 0.02


def test_bf16_is_refused_where_it_is_emulated(monkeypatch):
    monkeypatch.setattr(fast, "bf16_gain", lambda device: 0.4)
    with pytest.raises(ValueError, match=r"bf16 \(True\) is 0.40 times as fast as float32 on cpu.*use 'auto' or False"):
        fast.prepare(random_light(), bf16=True)
    frames, masks = scene(1, 16, 16, 1, 2)
    assert fast.prepare(random_light(), bf16="auto").memorize(frames, masks, 1)[0].dtype == torch.float32


def test_an_unknown_bf16_is_refused():
    with pytest.raises(ValueError, match=r"bf16 \('yes'\) must be True, False or 'auto'"):
        fast.prepare(random_light(), bf16="yes")


def test_the_gain_of_bf16_is_measured_once():
    fast.bf16_gain.cache_clear()
    assert fast.bf16_gain("cpu") > 0
    assert fast.bf16_gain("cpu") == fast.bf16_gain("cpu") and fast.bf16_gain.cache_info().misses == 1


def test_products_by_onednn_are_products_and_step_aside_for_gradients():
    a, b = torch.randn(7, 33), torch.randn(5, 33)
    torch.testing.assert_close(product(a, b), a @ b.T, rtol=0, atol=1e-5)
    a.requires_grad_()
    product(a, b).sum().backward()
    torch.testing.assert_close(a.grad, b.sum(0).expand(7, -1), rtol=0, atol=1e-5)
