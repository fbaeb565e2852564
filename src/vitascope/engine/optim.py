"""Optimisers of a stage: which parameters learn, in which groups, at which rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from vitascope.methods.base import Method, Optim, Stage


def lr_at(step: int, total: int, optim: Optim) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to `min_lr`; a pure function of the step.

    The first `round(warmup * total)` steps go evenly from 0 to `lr`, both ends included; the cosine starts at `lr`
    again and would reach `min_lr` one step after the last (the schedule of the VideoMAE family). With `warmup_lr` the
    cosine spans the whole stage, and the warm-up goes from `warmup_lr` to where the cosine then is (that of SlowFast
    and HiCo).

    Example:
        >>> optim = Optim(lr=1.0, warmup=0.3)
        >>> [round(lr_at(step, 10, optim), 3) for step in range(10)]
        [0.0, 0.5, 1.0, 1.0, 0.95, 0.812, 0.611, 0.389, 0.188, 0.05]
    """
    if optim.warmup_lr is not None:
        warm, met = optim.warmup * total, _cosine(optim.warmup, optim)
        return optim.warmup_lr + (met - optim.warmup_lr) * step / warm if step < warm else _cosine(step / total, optim)
    warm = round(optim.warmup * total)
    if step < warm:
        return optim.lr * step / max(1, warm - 1)
    return _cosine((step - warm) / max(1, total - warm), optim)


def _cosine(share: float, optim: Optim) -> float:
    return optim.min_lr + 0.5 * (optim.lr - optim.min_lr) * (1 + math.cos(math.pi * share))


def learning_names(method: Method, stage: Stage) -> list[str]:
    """Return the names of the parameters that learn in a stage: one of `stage.learns` is a prefix of each.

    A parameter that the method itself does not train (`requires_grad` off when it was built) never learns.

    Raises:
        ValueError: A prefix fits no parameter.
    """
    named = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    for prefix in stage.learns:
        if not any(name.startswith(prefix) for name in named):
            raise ValueError(
                f"learns of stage {stage.name!r} has {prefix!r}, which begins no name of a trainable parameter; "
                f"names begin with {', '.join(sorted({name.split('.')[0] for name in named}))}"
            )
    return [name for name in named if name.startswith(stage.learns)]


def parameter_groups(method: Method, names: Iterable[str], optim: Optim) -> list[dict[str, Any]]:
    """Sort parameters into groups of equal weight decay and learning rate.

    1-D parameters and scalars, biases and `method.no_decay` get no weight decay. The rate of a parameter is
    `layer_decay ** (deepest - layer_of(name))` times that of the step, `deepest` being the largest layer of the method.

    Returns:
        Groups with `params`, `names`, `weight_decay`, `lr_scale` and `adapts` (LARS: whether it adapts the rate).
    """
    parameters = dict(method.named_parameters())
    deepest = max(method.layer_of(name) for name in parameters)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name in names:
        layer = method.layer_of(name)
        decays = parameters[name].ndim > 1 and not name.endswith("bias") and name not in method.no_decay
        group = groups.setdefault(
            (layer, decays),
            {
                "params": [],
                "names": [],
                "weight_decay": optim.weight_decay if decays else 0.0,
                "lr_scale": optim.layer_decay ** (deepest - layer),
                "adapts": decays,
            },
        )
        group["params"].append(parameters[name])
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(method: Method, names: Iterable[str], optim: Optim) -> torch.optim.Optimizer:
    """Build the optimiser of a stage; `set_lr` gives it the rate of each step."""
    groups = parameter_groups(method, names, optim)
    if optim.name == "lars":
        return LARS(groups, lr=optim.lr, momentum=optim.betas[0], nesterov=optim.nesterov)
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.betas[0], nesterov=optim.nesterov)
    kind = torch.optim.AdamW if optim.name == "adamw" else torch.optim.Adam
    # one kernel for all tensors: 10 ms a step instead of 97 ms for 21 million weights on one core
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for g in groups for p in g["params"])
    return kind(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=fused)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of a step, scaled for each group's layer."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


class LARS(torch.optim.Optimizer):
    r"""Layer-wise adaptive rate scaling (You, Gitman and Ginsburg, 2017, arXiv 1708.03888, algorithm 1).

    For a tensor `w` with gradient `g`, weight decay `b`, momentum `m`, trust `t`:
    `local = t |w| / (|g| + b |w|)`, `v <- m v + lr local (g + b w)`, `w <- w - v`; with Nesterov's momentum
    `w <- w - m v - lr local (g + b w)`. `local` is 1 if `|w|` or `|g|` is 0, so that a tensor that starts at zero can
    leave it, and in groups with `adapts=False` (norms and biases), which are then plain SGD with momentum. With
    `frees_zeros=False` a tensor that is zero stays zero, as in the release of HiCo.

    Example:
        >>> w = nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> w.grad = torch.tensor([0.0, 1.0])
        >>> LARS([w], lr=1.0, momentum=0.0, trust=0.1).step()  # local = 0.1 * 5 / 1
        >>> w.tolist()
        [3.0, 3.5]
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        nesterov: bool = False,
        adapts: bool = True,
        frees_zeros: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "nesterov": nesterov,
            "adapts": adapts,
            "frees_zeros": frees_zeros,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        change = parameter.grad.add(parameter, alpha=group["weight_decay"])
        if group["adapts"]:
            size, slope = parameter.norm(), parameter.grad.norm()
            local = group["trust"] * size / (slope + group["weight_decay"] * size)
            # no branch on values: it would wait for the device
            is_defined = (size > 0) & (slope > 0)
            change *= torch.where(is_defined, local, float(group["frees_zeros"]))
        change *= group["lr"]
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(change)
        parameter.sub_(
            state["momentum"] if not group["nesterov"] else change.add_(state["momentum"], alpha=group["momentum"])
        )
