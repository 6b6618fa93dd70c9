"""`python -m jaxstroke.bench`: how fast networks train and answer, beside PyTorch, the stream and the hardware."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from typing import Any

from jaxstroke import command, console
from jaxstroke.errors import UserError
from jaxstroke.process import cores, door

# The papers' networks, and the plain one that most others are compared with; each by the experiment that trains it.
NETWORKS = {
    "unet": "unet_isles18",
    "mda_net": "mdanet_isles18",
    "cascade": "cascade_stage1",
    "dme_net": "dme_isles18",
    "cross_domain": "crossdomain_v1",
}
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog=command.text("bench"),
        description="Time training steps and forwards at the papers' sizes, in turn with what they are held against.",
    )
    found.add_argument("--network", choices=tuple(NETWORKS), metavar="N", help=f"only one of {', '.join(NETWORKS)}")
    found.add_argument("--against", choices=("torch",), help="also time the same network in PyTorch (extra: torch)")
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where both compute (cpu)")
    found.add_argument("--scale", choices=("full", "small"), default="full", help="small: minutes on a laptop")
    found.add_argument("--rounds", type=int, default=5, metavar="R", help="how often each thing is timed (5)")
    found.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return found


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: at least 1 is needed")
    if args.against and util.find_spec("torch") is None:
        raise UserError("--against torch: PyTorch is not installed; pip install 'jaxstroke[torch]' brings it")
    # Both libraries share the card, so neither may take all of it at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["JAX_PLATFORMS"] = "cpu" if args.device == "cpu" else os.environ.get("JAX_PLATFORMS", "")
    _note("loading jax ...")
    from jaxstroke.benchmarks import ours

    about = _about(args)
    _note("timing a matrix product")
    peak = ours.peak_flops()
    about["peak_gflops"] = peak / 1e9
    lines: list[dict[str, Any]] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):  # making a phantom tells how far it is
            for name in [args.network] if args.network else NETWORKS:
                lines.append({})
                for measured in _measure(name, args, peak):
                    lines[-1].update(measured)
    except KeyboardInterrupt:
        if args.json and lines[0]:  # minutes of work, of which each figure stands by itself
            _print_json(lines, about)
        raise
    if args.json:
        _print_json(lines, about)
    else:
        _print(lines, about)
        console.next_command("parity")
    return 0


def _about(args: argparse.Namespace) -> dict[str, Any]:
    from jaxstroke import sharding

    device = sharding.describe()
    if args.device == "cuda" and device["platform"] not in ("gpu", "cuda"):
        raise UserError("--device cuda: JAX finds no CUDA card; pip install 'jaxstroke[cuda]' brings its plugin")
    packages = (*_PACKAGES, "torch") if args.against else _PACKAGES
    versions = {name: metadata.version(name) for name in packages}
    return {"device": {**device, "cpu_cores": cores.usable()}, "versions": versions, "scale": args.scale}


def _print_json(lines: Sequence[dict[str, Any]], about: dict[str, Any]) -> None:
    console.say(json.dumps({"networks": [line for line in lines if line], **about}, indent=2))


def _measure(name: str, args: argparse.Namespace, peak: float) -> Iterator[dict[str, Any]]:
    """All figures of one network, by and by; each part is let go of before the next is built.

    A note begins with `timing` where nothing else should be computed on the device until the next note.
    """
    from jaxstroke.benchmarks import ours, pipeline
    from jaxstroke.experiment import catalogue, overrides

    experiment = catalogue.load(NETWORKS[name], scale=args.scale)
    # What two cores train at a time; a card takes the paper's batch.
    if args.device == "cpu":
        experiment = overrides.override(experiment, {"data.batch": 2 if experiment.data.kind.in_order else 4})
    _note(f"compiling the step of {name}, twice")
    built = ours.build(experiment)
    _note(f"phantoms for the stream of {name}")
    studies = pipeline.studies(experiment)
    subject = pipeline.Subject(studies, built.state())
    _note(f"timing {name}")
    times = ours.time_steps(built, rounds=args.rounds)
    train = times["train"]
    yield {
        "network": name,
        "experiment": experiment.name,
        "size": experiment.data.size,
        "batch": experiment.data.batch,
        "train_step": train.as_json(),
        "forward": times["forward"].as_json(),
        "slices_per_second": built.slices / train.best,
        "peak_share": built.flops / train.best / peak,
        "compile_s": built.compile_s,
        "compile_from_cache_s": built.compile_from_cache_s,
        "temporaries_mib": built.temporaries_bytes / 2**20,
        "augmentation_share": times["augmentation"].best / train.best,
        "stream_slices_per_second": pipeline.stream_slices_per_second(studies),
        "real_over_synthetic": ours.real_over_synthetic(built, studies.batches(), steps=2, rounds=args.rounds),
        "study_s": subject.stage_seconds(rounds=args.rounds),
        f"subject_of_{pipeline.SUBJECT_SLICES}_slices_s": subject.network_seconds(rounds=args.rounds),
        "checkpoint": pipeline.checkpoint_seconds(built.state()),
        "peak_memory_mib": ours.peak_memory_bytes() / 2**20,
    }
    del built, subject
    if args.against:
        yield from _against_torch(name, args)


def _against_torch(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from jaxstroke.benchmarks import against_torch
    from jaxstroke.comparison import specimen
    from jaxstroke.torch_twin import place

    here = place.find(args.device)
    full = args.scale == "full"
    one = specimen.specimen(name, full=full, own_batch=full and args.device != "cpu")
    with place.full_float32():
        for train, forward in against_torch.times(one, here, rounds=args.rounds, note=_note):
            yield {
                "train_step_ratio": against_torch.ratio(train),
                "forward_ratio": against_torch.ratio(forward),
                "manners": {
                    manner: {"train_step": train[manner].as_json(), "forward": forward[manner].as_json()}
                    for manner in train
                },
            }
            if "jax bfloat16" in train:
                yield {
                    "train_step_ratio_bfloat16": against_torch.ratio(train, "jax bfloat16", "autocast"),
                    "forward_ratio_bfloat16": against_torch.ratio(forward, "jax bfloat16", "autocast"),
                }


def _print(lines: Sequence[dict[str, Any]], about: dict[str, Any]) -> None:
    device = about["device"]
    where = f"{device['count']} {device['platform']} ({device['kind']}), {device['cpu_cores']} cores"
    console.say(f"{where}; " + ", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    console.say(f"{about['scale']} scale; peak of a matrix product {about['peak_gflops']:.0f} GFLOP/s")
    console.say()
    columns = ("network", "size", "batch", "step ms", "forward ms", "slices/s", "of peak", "compile s", "cached s")
    rows = [
        [line["network"], str(line["size"]), str(line["batch"])]
        + [f"{line[one]['best_ms']:.0f}" for one in ("train_step", "forward")]
        + [f"{line['slices_per_second']:.1f}", f"{line['peak_share']:.0%}"]
        + [f"{line['compile_s']:.1f}", f"{line['compile_from_cache_s']:.1f}"]
        for line in lines
    ]
    console.table(columns, rows, title="a training step and a forward (best of the rounds)")
    console.say()
    columns = (
        "network",
        "stream slices/s",
        "real / synthetic",
        "study s",
        "stall ms",
        "augmenting",
        "temporaries MiB",
        "peak MiB",
    )
    rows = [
        [line["network"], f"{line['stream_slices_per_second']:.0f}", f"{line['real_over_synthetic']:.2f}"]
        + [f"{sum(line['study_s'].values()):.2f}", f"{1e3 * line['checkpoint']['stall_s']:.0f}"]
        + [f"{line['augmentation_share']:.1%}"]
        + [f"{line['temporaries_mib']:.0f}", f"{line['peak_memory_mib']:.0f}"]
        for line in lines
    ]
    console.table(columns, rows, title="what lies around it (phantoms)")
    if "train_step_ratio" in lines[0]:
        rows = [[line["network"], f"{line['train_step_ratio']:.2f}", f"{line['forward_ratio']:.2f}"] for line in lines]
        console.say()
        console.table(("network", "training step", "forward"), rows, title="PyTorch's best time over ours")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    door.run(main)
