"""A run goes on to the same numbers, whoever stops it, and on however many processes it runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.training.data.conftest import root as root  # noqa: PLC0414  (a fixture)
from training import observer
from training import train as trainer
from training.checkpoint import load_state, save_state
from training.config_file import load_config
from training.finite import NonFiniteLossError
from training.methods import METHODS, Term
from training.publish import hub
from training.record.files import JOURNAL
from training.run import LAST
from training.train import make_accelerator, run
from wsolviz.backends.loading import load_backbone

CONFIG: dict[str, Any] = {
    "name": "trees",
    "method": {"name": "bridging_gap", "warmup_epochs": 1.0},
    "backbone": {"name": "timm/test_efficientnet", "weights": None},
    "data": {"image_size": 32, "workers": 0},
    "augmentation": {"resize": 40, "random_erasing": 0.3},
    "optimizer": {"lr": 0.01, "clip_norm": 5.0},
    "schedule": {"name": "cosine"},
    "epochs": 3,
    "batch_size": 4,
    "ema": 0.9,
    "validation": {"photos": 1},
    "checkpoint_steps": 1,
}


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    """A configuration's file for the made photos, labelled in three classes."""
    settings = json.loads(json.dumps(CONFIG))
    settings["data"]["train"] = [{"kind": "metadata", "root": str(root)}]
    settings["data"]["validation"] = {"root": str(root), "split": "val"}
    path = tmp_path / "trees.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def train(config: Path, folder: Path, *overrides: str) -> Path:
    settings = load_config(config, overrides)
    return run(settings, folder, make_accelerator(settings))


def command(config: Path, out: Path, *overrides: str) -> list[str]:
    arguments = ["--config", str(config), "--out", str(out), *overrides]
    return [sys.executable, "-m", "training.train", *arguments]


def losses(folder: Path) -> list[dict[str, float]]:
    """The mean losses of each epoch, by name."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{n: loss["value"] for n, loss in r["losses"].items()} for r in records]


def figures(folder: Path) -> list[Any]:
    """What each epoch was measured to do, and its top-1 in training."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [(r["top1"], r["validation"]) for r in map(json.loads, lines)]


def assert_same_run(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    assert figures(one) == figures(other)
    states = [load_state(folder / LAST) for folder in (one, other)]
    for part in ("module", "average", "optimizer"):
        assert_equal(*(state[part] for state in states if state is not None))


def assert_equal(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    else:
        assert a == b


def test_killed_at_any_moment_it_goes_on_to_the_same_numbers(config: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config, whole / "trees")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    kills = 0
    for wanted in (2, 5):  # lines of steps seen before the kill: in the first and second epoch
        process = subprocess.Popen(command(config, broken), env=environment)
        while process.poll() is None and steps_done(broken / "trees") < wanted:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills, "the run ended before it could be killed"
    assert subprocess.run(command(config, broken), env=environment, check=False).returncode == 0
    assert_same_run(whole / "trees", broken / "trees")


def steps_done(folder: Path) -> int:
    state = load_state(folder / LAST)
    return 0 if state is None else int(3 * state["epoch"] + state["step"])


def test_killed_before_its_first_checkpoint_it_begins_again(config: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole" / "trees", tmp_path / "broken" / "trees"
    train(config, whole, "epochs=1")
    train(config, broken, "epochs=1")
    (broken / LAST).unlink()  # as if the kill came after the first line of the journal
    journal = broken / "journal.jsonl"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    train(config, broken, "epochs=1")
    assert_same_run(whole, broken)


def test_a_methods_own_layers_begin_alike_whatever_ran_before(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["method={name: acol, channels: 4}", "epochs=1"]
    train(config, tmp_path / "one", *own)
    make = trainer.make_loader

    def drawing(*inputs: Any, **options: Any) -> Any:
        torch.rand(3)
        return make(*inputs, **options)

    monkeypatch.setattr(trainer, "make_loader", drawing)
    train(config, tmp_path / "other", *own)
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_a_finished_run_is_left_as_it_is(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trees"
    train(config, folder)
    before = (folder / "journal.jsonl").read_bytes()
    train(config, folder)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_another_configuration_does_not_go_on_with_a_run(config: Path, tmp_path: Path) -> None:
    train(config, tmp_path / "trees", "epochs=1")
    with pytest.raises(ValueError, match=r"lr: 0.02.*--force"):
        train(config, tmp_path / "trees", "epochs=1", "optimizer.lr=0.02")


def test_two_processes_give_the_losses_of_one(config: Path, tmp_path: Path) -> None:
    """With what is drawn anew in each process left out: BatchNorm's statistics, and erasing."""
    same = [
        "freeze.statistics=true",
        "method.drop_probability=1.0",
        "augmentation.random_erasing=0.0",
        "optimizer.clip_norm=null",
        "epochs=2",
    ]
    train(config, tmp_path / "one" / "trees", *same)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launched = [*launcher, *command(config, tmp_path / "two", *same)[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert subprocess.run(launched, env=environment, check=False).returncode == 0
    one, two = (losses(tmp_path / name / "trees") for name in ("one", "two"))
    assert [e.keys() for e in one] == [e.keys() for e in two] and len(one) == 3
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)


def test_two_processes_measure_and_keep_one_network(config: Path, tmp_path: Path) -> None:
    """Each sees other photos, whose statistics are its own, and meets other broken ones."""
    script = tmp_path / "compare.py"
    script.write_text(COMPARE)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    for number in range(0, 13, 3):
        (tmp_path / "trees" / "images" / "train" / f"{number:02d}.png").write_text("no photo")
    launched = [*launcher, str(config), str(tmp_path / "run")]
    assert subprocess.run(launched, env=environment, check=False).returncode == 0
    told = {line.split("\t")[0] for line in (tmp_path / "run" / "broken.txt").open()}
    met = set[str]()
    for rank in range(2):
        met |= set((tmp_path / f"run-{rank}.txt").read_text().split())
    assert met and told == met


COMPARE = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from training import run as module
from training.config_file import load_config
from training.train import make_accelerator, run

met = set()
step, measure = module.TrainingRun._step, module.TrainingRun._measure


def stepped(self, loaded, number):
    met.update(image for image, _ in loaded.broken)
    return step(self, loaded, number)


def compared(self):
    for found in (self.backbone.module, self.average.module):
        for name, tensor in found.state_dict().items():
            both = [torch.zeros_like(tensor) for _ in range(2)]
            dist.all_gather(both, tensor.contiguous())
            assert torch.equal(*both), name
    measure(self)


module.TrainingRun._step, module.TrainingRun._measure = stepped, compared
folder, config = Path(sys.argv[2]), load_config(sys.argv[1], ["epochs=2"])
run(config, folder, make_accelerator(config))
folder.with_name(f"run-{dist.get_rank()}.txt").write_text(" ".join(met))
"""


def test_processes_that_see_other_checkpoints_do_not_wait_for_each_other(
    config: Path, tmp_path: Path
) -> None:
    train(config, tmp_path / "0", "epochs=1")
    script = tmp_path / "apart.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "from training.config_file import load_config\n"
        "from training.train import make_accelerator, run\n"
        "config = load_config(sys.argv[1], ['epochs=1'])\n"
        "run(config, Path(sys.argv[2]) / os.environ['RANK'], make_accelerator(config))\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    launched = [*launcher, str(config), str(tmp_path)]
    ended = subprocess.run(launched, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode and "it must lie on a disk that all machines share" in ended.stderr


def test_parts_of_a_batch_give_the_gradient_of_the_whole(config: Path, tmp_path: Path) -> None:
    same = ["freeze.statistics=true", "method.drop_probability=1.0", "epochs=2"]
    train(config, tmp_path / "whole", *same)
    train(config, tmp_path / "parts", *same, "accumulate=2")
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    for mine, theirs in zip(whole, parts, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)


def test_recomputed_blocks_give_the_same_run(config: Path, tmp_path: Path) -> None:
    for name in ("kept", "again"):
        train(config, tmp_path / name, "epochs=2", f"gradient_checkpointing={name == 'again'}")
    for mine, theirs in zip(losses(tmp_path / "kept"), losses(tmp_path / "again"), strict=True):
        assert theirs == pytest.approx(mine, abs=1e-5)
    kept, again = (load_state(tmp_path / name / LAST) for name in ("kept", "again"))
    assert kept is not None and again is not None
    for name, tensor in kept["module"].items():
        if not name.endswith("num_batches_tracked"):  # counts; nothing is computed from it
            torch.testing.assert_close(again["module"][name], tensor, rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_no_number_stops_with_its_batch_kept(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = METHODS["bridging_gap"]
    terms, calls = method.terms, []

    def spoiled(self: Any, *inputs: Any) -> Any:
        logits, found = terms(self, *inputs)
        calls.append(inputs[1])
        if len(calls) == 2:
            found["drop"] = Term(found["drop"].value * float("nan"))
        return logits, found

    monkeypatch.setattr(method, "terms", spoiled)
    with pytest.raises(NonFiniteLossError, match=r"Epoch 1, step 2: .*drop nan"):
        train(config, tmp_path / "trees")
    kept = torch.load(tmp_path / "trees" / "nonfinite-0-1-0.pt", weights_only=True)
    torch.testing.assert_close(kept["images"], calls[1].images, rtol=0, atol=0)
    assert len(kept["image_ids"]) == 4 and "drop nan" in kept["losses"]
    assert steps_done(tmp_path / "trees") == 1


def test_weights_that_are_no_numbers_are_not_kept(config: Path, tmp_path: Path) -> None:
    """The only step of an epoch has a finite loss, and what it makes of the weights has not."""
    wild = ["batch_size=12", "optimizer.lr=1e38", "optimizer.clip_norm=null", "schedule={}"]
    with pytest.raises(NonFiniteLossError, match=r"Epoch 1: weights .*A smaller optimizer\.lr"):
        train(config, tmp_path / "trees", *wild)
    kept = load_state(tmp_path / "trees" / LAST)
    assert kept is not None and kept["epoch"] == 0
    assert all(tensor.isfinite().all() for tensor in kept["module"].values())


def test_a_loss_that_is_no_number_is_told_in_one_line(config: Path, tmp_path: Path) -> None:
    wild = command(config, tmp_path, "optimizer.lr=1e30", "optimizer.clip_norm=null")
    ended = subprocess.run(wild, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert "A smaller optimizer.lr" in " ".join(ended.stderr.split())


def test_too_little_memory_is_told_with_what_needs_less(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(METHODS["bridging_gap"], "terms", full)
    with pytest.raises(ValueError, match=r"CUDA out of memory\. A higher accumulate or"):
        train(config, tmp_path / "trees")


def test_a_full_disk_loses_no_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_state({"epoch": 1}, path)

    def full(_state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="The file before it is still there"):
            save_state({"epoch": 2}, path)
    assert load_state(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_whatever_cannot_be_written_the_run_goes_on_to_the_same_numbers(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole" / "trees", tmp_path / "broken" / "trees"
    train(config, whole, "epochs=2")
    write, failing = observer.write_report, 0

    def full(folder: Path) -> Path:
        if len(losses(folder)) == failing:
            raise OSError(28, "No space left on device")
        return write(folder)

    monkeypatch.setattr(observer, "write_report", full)
    for failing in (1, 2, 3):  # noqa: B007  (`full` reads it)
        told = r"No space left on device\. The last checkpoint in .*trees is kept.* goes on from it"
        with pytest.raises(OSError, match=told):
            train(config, broken, "epochs=2")
    monkeypatch.undo()
    train(config, broken, "epochs=2")
    assert_same_run(whole, broken)


def test_the_result_is_the_best_epochs_averaged_weights(config: Path, tmp_path: Path) -> None:
    weights = train(config, tmp_path / "trees")
    best = load_state(tmp_path / "trees" / "checkpoints" / "best.pt")
    assert best is not None and best["epochs_done"] >= 1
    scores = [v["methods"]["cam"]["MaxBoxAccV2"]["value"] for _, v in figures(tmp_path / "trees")]
    assert best["epochs_done"] == 1 + scores[1:].index(max(scores[1:]))
    loaded = load_backbone(f"file/{weights}").module.state_dict()
    for name, tensor in best["module"].items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


def test_the_result_is_the_last_epoch_where_that_is_asked(config: Path, tmp_path: Path) -> None:
    weights = train(config, tmp_path / "trees", "validation.result=last")
    checkpoints = tmp_path / "trees" / "checkpoints"
    assert not (checkpoints / "best.pt").exists()
    last = load_state(checkpoints / "last.pt")
    assert last is not None
    loaded = load_backbone(f"file/{weights}").module.state_dict()
    for name, tensor in loaded.items():
        torch.testing.assert_close(tensor, last["average"][f"module.{name}"], rtol=0, atol=0)


def test_the_cards_command_gives_the_same_file(config: Path, tmp_path: Path) -> None:
    """With relative paths, which a card tells as they are."""
    data = ["data.train.0.root=trees", "data.validation.root=trees"]
    asked = command(Path(config.name), Path("first"), "--half", "epochs=1", "seed=3", *data)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    subprocess.run(asked, env=environment, cwd=tmp_path, check=True)
    card = (tmp_path / "first" / "trees" / "README.md").read_text()
    python, *told = shlex.split(card.partition("```sh\n")[2].partition("\n```")[0])
    assert python == "python"
    again = [sys.executable, *told, "--out", "again"]
    subprocess.run(again, env=environment, cwd=tmp_path, check=True)
    files = [tmp_path / out / "trees" / "trees.safetensors" for out in ("first", "again")]
    one, other = (load_file(file) for file in files)
    types = {name: tensor.dtype for name, tensor in one.items()}
    assert torch.float16 in types.values()
    assert types == {name: tensor.dtype for name, tensor in other.items()}
    assert_equal(one, other)


def test_what_is_published_tells_no_folder_of_this_computer(
    config: Path, root: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    torch.manual_seed(0)
    network = load_backbone("timm/test_efficientnet", weights=None, num_classes=3)
    save_file(network.module.state_dict(), start)
    overrides = [
        "epochs=1",
        f"backbone.weights={start}",
        f"data.train=[{{kind: metadata, root: {root}}}]",
        f"data.validation.root={root}",
    ]
    trainer.train(config, overrides, out=tmp_path / "run", half=True)
    folder = tmp_path / "run" / "trees"
    for name in ("trees.safetensors", "trees.json", "README.md"):
        content = (folder / name).read_bytes()
        assert b"start.safetensors" in content, name  # it is told, by its last part
        assert os.fsencode(tmp_path) not in content, name


@pytest.mark.parametrize(
    ("repository", "token", "told"),
    [("two words", "hf_secret", "is no name of a repository"), ("me/trees", None, "hf auth login")],
)
def test_what_cannot_be_sent_is_refused_before_any_training(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    token: str | None,
    told: str,
) -> None:
    monkeypatch.setattr(hub, "get_token", lambda: token)
    journal = tmp_path / "trees" / JOURNAL
    journal.write_text("an earlier run's")
    with pytest.raises(ValueError, match=told):
        trainer.train(config, out=tmp_path, force=True, push_to=repository)
    assert journal.read_text() == "an earlier run's"


def test_to_begin_anew_is_to_make_the_taught_maps_anew(tmp_path: Path) -> None:
    for name in ("journal.jsonl", "broken.txt", "target_maps.npz", "nonfinite-0-1-0.pt", "my.txt"):
        (tmp_path / name).touch()
    observer.forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["my.txt"]
