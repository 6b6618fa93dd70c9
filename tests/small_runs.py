"""A run folder that was evaluated, made in a moment: small studies, and a system that answers without a network."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from small_studies import isles2022_root, lesion

from jaxstroke import files
from jaxstroke.comparison import specimen
from jaxstroke.data.case import Case
from jaxstroke.experiment import Experiment, catalogue, overrides
from jaxstroke.inference import evaluation
from jaxstroke.inference.predictor import Answer
from jaxstroke.inference.system import System
from jaxstroke.models import apply
from jaxstroke.pages.keep import Keeper
from jaxstroke.runs.folder import RunFolder

SHAPE = (6, 40, 36)
# Row and column of a lesion of 8 pixels in two slices, by study.
PLACES = ((12, 10), (20, 18), (15, 20), (22, 9))


def shifted(study, columns: int = 2) -> Answer:
    """The reference, moved: so it is right on one side and wrong on the other."""
    probabilities = np.roll(study.masks["lesion"], columns, axis=2).astype(np.float32) * 0.9 + 0.02
    gate = np.broadcast_to(np.linspace(0, 1, study.masks["lesion"].shape[2], dtype=np.float32), probabilities.shape)
    return Answer(probabilities[..., None], {"memory_gate/gate": gate})


def above_half(probabilities: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    return probabilities > 0.5


def evaluated_run(
    folder: Path, *, names: Sequence[str] = (), phantom: bool = True, places: Sequence[tuple[int, int]] = PLACES
) -> RunFolder:
    """A run of `unet_isles22` with a study for each place; `names` are theirs where those of the files will not do."""
    masks = [lesion(SHAPE, {2: place, 3: place}, side=8) for place in places]
    cases = isles2022_root(folder / "data", masks)
    for number, name in enumerate(names):
        cases[number] = dataclasses.replace(cases[number], study=name)
    systems = [
        System("unet_isles22", "U-Net", ("DWI", "ADC"), shifted, above_half),
        System("adc_620", "ADC", ("ADC",), lambda study: dataclasses.replace(shifted(study, 4), maps={}), above_half),
    ]
    return judged_run(folder, cases, systems, phantom=phantom)


def judged_run(folder: Path, cases: Sequence[Case], systems: Sequence[System], *, phantom: bool) -> RunFolder:
    """A run of `unet_isles22` that was judged on these cases, with everything that `evaluate` keeps for a page."""
    run = RunFolder(folder / "run")
    experiment = dataclasses.asdict(catalogue.load("unet_isles22", scale="small"))
    files.write_sealed(run.path / "experiment.json", experiment)
    files.write_sealed(run.path / "about.json", about(phantom, folder / "data", [case.study for case in cases]))
    for epoch in (1, 2, 3):
        run.journal.append({"step": epoch, "epoch": epoch, "loss": 1 / epoch, "validation_loss": 1.2 / epoch,
                            "dice": 0.2 * epoch, "hd95_mm": 9.0 / epoch})  # fmt: skip
    keeper = Keeper(run.path / "evaluation" / "test", studies=len(cases), phantom=phantom)
    rows = evaluation.evaluate(
        systems, cases, images=("DWI", "ADC"), targets=("lesion",), advance=lambda *_, **__: None, look=keeper
    )
    keeper.close()
    with (run.path / "evaluation" / "test" / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["data", *rows[0]])
        writer.writeheader()
        writer.writerows({"data": "phantom" if phantom else "real", **row} for row in rows)
    return run


def about(phantom: bool, data: Path, studies: Sequence[str]) -> Mapping[str, object]:
    return {
        "data": str(data),
        "phantom": phantom,
        "seed": 0,
        "data_fingerprint": "0123456789abcdef",
        "split": {"train": ["a"], "validation": ["b"], "test": list(studies)},
        "versions": {"jax": "0.10.2"},
        "commit": None,
        "device": {"kind": "cpu", "count": 1},
    }


def small_experiment(**changes: object) -> Experiment:
    """`unet_isles22`, as narrow as it can be."""
    small = {"data.size": 32, "model.width": 2, **changes}
    return overrides.override(catalogue.load("unet_isles22", scale="small"), small)


def drawn_run(
    path: Path, seed: int, *, data: Path, split: Mapping[str, Sequence[str]], experiment: Experiment | None = None
) -> RunFolder:
    """A run that was never trained: its weights are drawn, and its first step is its best."""
    wanted = experiment or small_experiment()
    run = RunFolder(path)
    files.write_sealed(path / "experiment.json", dataclasses.asdict(wanted))
    files.write_sealed(path / "about.json", {**about(False, data, []), "jaxstroke": "0.1.0", "split": dict(split)})
    shapes = jax.eval_shape(lambda key: apply.initialise(apply.build(wanted), wanted.data, key), jax.random.key(0))
    drawn = jax.tree.map(jnp.asarray, specimen.draw_weights(shapes, seed))
    checkpoints = run.checkpoints()
    checkpoints.save(7, {"weights": {"batch_stats": {}, **drawn}}, {"best_steps": {}})
    checkpoints.close()
    return run
