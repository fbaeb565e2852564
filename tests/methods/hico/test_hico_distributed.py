"""Two and three processes (gloo on loopback), through the engine, learn what one learns: section 1.7 and P8."""

import json

import pytest
import torch
from contrastive_toy import Contrastive, ContrastiveConfig, idle_calls, in_processes, run, weights_of

from vitascope.engine.log import read_metrics

SCENARIOS = {
    "unequal": ContrastiveConfig(batch_size=7),  # 3 + 4; 2 + 2 + 3
    "unreadable": ContrastiveConfig(batch_size=4, good=4, bad=3),  # some processes have no sample
    "local": ContrastiveConfig(batch_size=7, scope="local"),
}
PARTS = ContrastiveConfig(batch_size=8, micro_batch=2)  # 2 + 3 + 3: one process has fewer parts than the others


def run_all(rank, folder, num_processes):
    counts = {}
    for name, config in SCENARIOS.items():
        idle_calls.clear()
        run(config, folder / name)
        counts[name] = len(idle_calls)
    if num_processes == 3:
        idle_calls.clear()
        run(PARTS, folder / "parts")
        counts["parts"] = len(idle_calls)
    (folder / f"idle-{rank}.json").write_text(json.dumps(counts))


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_learn_what_one_does(tmp_path, num_processes):
    many = tmp_path / "many"
    many.mkdir()
    in_processes(num_processes, run_all, many, num_processes)
    for name, config in SCENARIOS.items():
        one = tmp_path / name
        run(config.model_copy(update={"shards": num_processes if name == "local" else 1}), one)
        expected, found = weights_of(one), weights_of(many / name)
        torch.manual_seed(0)
        start = Contrastive(config).state_dict()
        for key, value in expected.items():
            assert (found[key] - value).abs().max() <= 1e-12, f"{name} {key} differs"
            assert (value - start[key]).abs().max() > 1e-4, f"{name} {key} did not learn"
        lines, others = read_metrics(one), read_metrics(many / name)
        assert [line["grad_norm"] for line in lines] == pytest.approx([line["grad_norm"] for line in others], abs=1e-12)
        assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in others], abs=1e-12)
    idle = [json.loads((many / f"idle-{rank}.json").read_text()) for rank in range(num_processes)]
    assert sum(each["unreadable"] for each in idle) and not sum(each["unequal"] + each["local"] for each in idle)
    if num_processes == 3:
        assert idle[0]["parts"] == 3 and idle[1]["parts"] == idle[2]["parts"] == 0
