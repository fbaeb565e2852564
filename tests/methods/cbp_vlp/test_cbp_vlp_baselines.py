"""BaS-Net and CO2-Net against literal restatements of section 4 of the specification, on the same weights."""

import pytest
import torch
import torch.nn.functional as F

from vitascope.methods.cbp_vlp.basnet import BasNet
from vitascope.methods.cbp_vlp.co2net import Co2Net
from vitascope.methods.cbp_vlp.loss import WARMUP, alike_loss

DIM, CLASSES, T = 12, 3, 37
TAGS = torch.tensor([[1.0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])


@pytest.fixture
def videos():
    torch.manual_seed(3)
    return torch.randn(len(TAGS), T, DIM), torch.ones(len(TAGS), T, dtype=torch.bool)


def as_conv(x, layer):
    """A layer on one video `[D, T]`, as a convolution over time."""
    weight = layer.weight if layer.weight.ndim == 3 else layer.weight[..., None]
    return F.conv1d(x[None], weight, layer.bias, padding=weight.shape[2] // 2)[0]


def top_mean(scores, ratio):
    """`[T, K]` -> `[K]`, by sorting."""
    return scores.sort(0, descending=True).values[: max(1, len(scores) // ratio)].mean(0)


def slow_basnet(net, video):
    x = video.T  # [D, T]
    w = torch.sigmoid(as_conv(F.leaky_relu(as_conv(x, net.filter1), 0.01), net.filter2))  # [1, T]

    def cas(z):
        z = F.leaky_relu(as_conv(z, net.conv1), 0.01)
        z = F.leaky_relu(as_conv(z, net.conv2), 0.01)
        return as_conv(z, net.head).T  # [T, K + 1]

    return cas(x), cas(w * x), w.T


def slow_basnet_loss(outs, tags):
    bce, norm = 0.0, 0.0
    for (base, held, w), y in zip(outs, tags, strict=True):
        for scores, last in ((base, 1.0), (held, 0.0)):
            target = torch.cat([y, torch.tensor([last])])
            target = target / target.sum()
            p = top_mean(scores, 8).softmax(0)
            entries = [-(t * torch.log(q) + (1 - t) * torch.log(1 - q)) for t, q in zip(target, p, strict=True)]
            bce = bce + sum(entries) / len(entries) / len(tags)
        norm = norm + w.abs().sum() / len(tags)
    return bce + 1e-4 * norm


def test_basnet_is_its_literal_restatement(videos):
    torch.manual_seed(0)
    net = BasNet(DIM, CLASSES, hidden=7).eval()
    out, outs = net(*videos), [slow_basnet(net, video) for video in videos[0]]
    for key, i in (("logits", 0), ("suppressed", 1), ("attention", 2)):
        assert torch.allclose(out[key], torch.stack([each[i] for each in outs]), atol=1e-6), key
    loss = WARMUP["basnet"](out, TAGS, videos[1])["loss"]
    assert torch.allclose(loss, slow_basnet_loss(outs, TAGS), atol=1e-6)


def slow_consensus(part, main, other):
    whole = F.leaky_relu(as_conv(main.mean(1, keepdim=True), part.whole), 0.2)  # [D, 1]
    local = F.leaky_relu(as_conv(other, part.local), 0.2)  # [D, T]
    filtered = torch.sigmoid(local * whole) * main
    x = F.leaky_relu(as_conv(filtered, part.attend1), 0.2)
    x = F.leaky_relu(as_conv(x, part.attend2), 0.2)
    return filtered, torch.sigmoid(as_conv(x, part.attend3))  # [1, T]


def slow_co2net(net, video):
    rgb, flow = video.T[: DIM // 2], video.T[DIM // 2 :]
    shown_rgb, av = slow_consensus(net.first, rgb, flow)
    shown_flow, af = slow_consensus(net.second, flow, rgb)
    features = F.leaky_relu(as_conv(torch.cat([shown_rgb, shown_flow]), net.fuse), 0.2)
    logits = as_conv(F.leaky_relu(as_conv(features, net.conv), 0.2), net.head).T  # [T, K + 1]
    attention = ((av + af) / 2).T
    held = torch.stack([a * (row - row.min()) + row.min() for a, row in zip(attention, logits, strict=True)])
    return {
        "logits": logits,
        "suppressed": held,
        "features": features.T,
        "attention": attention,
        "attention_first": av.T,
        "attention_second": af.T,
    }


def distance(a, b):
    return 1 - (a @ b) / (a.norm() * b.norm())


def slow_pair(one, two, k):
    """The hinges of one pair of videos, for one class."""
    high, low = [], []
    for video in (one, two):
        a = video["suppressed"][:, k].softmax(0)
        high.append(sum(w * f for w, f in zip(a, video["features"], strict=True)))
        low.append(sum((1 - w) / max(len(a) - 1, 1) * f for w, f in zip(a, video["features"], strict=True)))
    d1, d2, d3 = distance(high[0], high[1]), distance(high[0], low[1]), distance(high[1], low[0])
    return 0.5 * max(d1 - d2 + 0.5, 0 * d1) + 0.5 * max(d1 - d3 + 0.5, 0 * d1)


def slow_alike(outs, tags, pairs):
    total, count = 0.0, 0
    for i, j in pairs:
        for k in range(tags.shape[1]):
            if tags[i, k] and tags[j, k]:
                total, count = total + slow_pair(outs[i], outs[j], k), count + 1
    return total / count


def slow_co2net_loss(outs, tags):
    n, total = len(tags), 0.0
    for out, y in zip(outs, tags, strict=True):
        for key, last in (("logits", 1.0), ("suppressed", 0.0)):
            target = torch.cat([y, torch.tensor([last])])
            total = total - (target / (target.sum() + 1e-4) * top_mean(out[key], 7).log_softmax(0)).sum() / n
        av, af, both = out["attention_first"], out["attention_second"], out["attention"]
        total = total + (0.5 * F.mse_loss(av, af.detach()) + 0.5 * F.mse_loss(af, av.detach())) / n
        total = total + 0.8 * (av.mean() + af.mean() + both.mean()) / 3 / n
        background = out["logits"].softmax(1)[:, -1:]
        total = total + 0.8 * sum((1 - a - background).abs().mean() for a in (av, af, both)) / 3 / n
    return total + slow_alike(outs, tags, [(i, j) for i in range(n) for j in range(i + 1, n)])


def test_co2net_is_its_literal_restatement(videos):
    torch.manual_seed(0)
    net = Co2Net(DIM, CLASSES, hidden=7).eval()
    out, outs = net(*videos), [slow_co2net(net, video) for video in videos[0]]
    for key in out:
        assert torch.allclose(out[key], torch.stack([each[key] for each in outs]), atol=1e-6), key
    assert torch.allclose(WARMUP["co2net"](out, TAGS, videos[1])["loss"], slow_co2net_loss(outs, TAGS), atol=1e-5)


def test_the_mutual_terms_teach_each_stream_the_other_as_it_is(videos):
    torch.manual_seed(0)
    net = Co2Net(DIM, CLASSES, hidden=7).eval()
    WARMUP["co2net"](net(*videos), TAGS, videos[1])["loss"].backward()
    grads = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    slow_co2net_loss([slow_co2net(net, video) for video in videos[0]], TAGS).backward()
    for name, p in net.named_parameters():
        assert torch.allclose(grads[name], p.grad, atol=1e-5), name


def test_pairs_of_the_released_batch_order_are_those_that_are_found(videos):
    """Three pairs at the first six places, each of a class of its own: what the released code compares."""
    torch.manual_seed(0)
    net, tags = Co2Net(DIM, CLASSES, hidden=7).eval(), torch.eye(3).repeat_interleave(2, 0)
    out, outs = net(*videos), [slow_co2net(net, video) for video in videos[0]]
    found = alike_loss(out["features"], out["suppressed"], tags, videos[1])
    assert torch.allclose(found, slow_alike(outs, tags, [(0, 1), (2, 3), (4, 5)]), atol=1e-6)


def test_without_a_pair_the_likeness_is_zero_and_has_a_gradient():
    features = torch.randn(3, 5, 4, requires_grad=True)
    loss = alike_loss(features, torch.randn(3, 5, 4), torch.eye(3), torch.ones(3, 5, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and (features.grad == 0).all()


def test_dropout_is_where_it_was_said(videos):
    torch.manual_seed(0)
    for net, key in ((BasNet(DIM, CLASSES), "logits"), (Co2Net(DIM, CLASSES), "attention_first")):
        assert not torch.equal(net(*videos)[key], net(*videos)[key])
    attention = Co2Net(DIM, CLASSES)(*videos)["attention_first"]
    assert (attention == 0.5).float().mean() == pytest.approx(0.5, abs=0.1)  # its logit is dropped half of the time
