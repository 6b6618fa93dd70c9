"""`python -m jaxstroke.predict RUN STUDY -o OUT`: masks and probability maps as NIfTI, on each study's own grid."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxstroke import console
from jaxstroke.errors import UserError


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="python -m jaxstroke.predict",
        description="Segment a study, or a folder of them, with a trained run; the network is compiled once for all.",
    )
    words.add_argument("run", metavar="RUN", help="the run folder that train wrote")
    words.add_argument("study", metavar="STUDY", help="a study's folder, or a data set with many")
    words.add_argument("-o", "--out", metavar="OUT", required=True, help="the folder for what is predicted")
    words.add_argument(
        "--intermediates",
        default="",
        metavar="NAMES",
        help="also write what the network looks at (attention, gate, difference, synthetic, ...); 'list' names them",
    )
    return words


def main(arguments: list[str]) -> int:
    words = parser().parse_args(arguments)
    console.say(f"predicting {words.study} with {words.run}")
    from jaxstroke import devices
    from jaxstroke.data.layouts import find_layout, phantom_facts, study_from_folder
    from jaxstroke.data.study import read_study
    from jaxstroke.inference import predictor, system
    from jaxstroke.runs import files
    from jaxstroke.runs.folder import RunFolder

    devices.keep_compiled_programs()
    run = RunFolder(Path(words.run))
    names = [name for name in words.intermediates.split(",") if name]
    if names == ["list"]:
        for path in predictor.available(run.experiment()):
            console.say(path)
        return 0
    network, experiment = system.trained(run, intermediates=names)
    layout = find_layout(experiment.data.layout)
    root = Path(words.study)
    cases = layout.find(root) if layout.recognises(root) else [study_from_folder(root, layout)]
    out = Path(words.out)
    about = run.about()
    trained_on_phantom = about["phantom"]
    if trained_on_phantom:
        console.say("*** THIS NETWORK WAS TRAINED ON PHANTOMS: its answers on real studies mean nothing. ***")
    report: list[dict[str, Any]] = []
    with console.bar("predicting", len(cases), "studies") as advance:
        for case in cases:
            study = read_study(case, images=experiment.data.channels, masks=())
            answer = network.answer(study)
            report += _write(out, layout, study, answer, network, experiment.data.targets)
            advance(1, note=case.study)
    facts = {
        "network": experiment.name,
        "run": str(run.path.absolute()),
        "trained_on_phantom": trained_on_phantom,
        "studies_are_phantom": phantom_facts(root) is not None,
        "not_a_medical_device": True,
        "predictions": report,
    }
    files.write_json(out / "predictions.json", facts)
    for line in report:
        console.say(
            f"{line['study']} {line['target']}: {line['volume_ml']:.1f} mL, {line['lesions']} lesions -> {line['mask']}"
        )
    console.next_command("python", "-m", "jaxstroke.evaluate", words.run, "--cases")
    return 0


def _write(out: Path, layout: Any, study: Any, answer: Any, network: Any, targets: tuple[str, ...]) -> list[dict]:
    """Writes each target's mask and probability map, and the maps that were asked for; returns what to tell of them."""
    import numpy as np

    from jaxstroke.data.nifti import write_volume
    from jaxstroke.metrics import lesions, overlap
    from jaxstroke.pictures import plots

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: this folder cannot be made ({error.strerror}); choose another -o") from None
    stem, ending = _parts(layout.prediction_name(study.case))
    maps = {}
    for path, values in answer.maps.items():
        maps[path] = str(out / f"{stem}_{path.replace('/', '-')}{ending}")
        write_volume(Path(maps[path]), study.grid.to_file(values.astype(np.float32)), like=study.grid.header)
    told = []
    for head, target in enumerate(targets):
        values = answer.probabilities[..., head]
        mask = network.mask(values)
        tail = "" if len(targets) == 1 else "_" + target.replace("/", "-").lower()
        paths = out / f"{stem}{tail}{ending}", out / f"{stem}{tail}_probability{ending}", out / f"{stem}{tail}.png"
        write_volume(paths[0], study.grid.to_file(mask.astype(np.uint8)), like=study.grid.header)
        write_volume(paths[1], study.grid.to_file(values.astype(np.float32)), like=study.grid.header)
        plots.overlay(study, mask, values, paths[2], title=f"{study.case.study}: {target}")
        told.append(
            {
                "study": study.case.study,
                "target": target,
                "mask": str(paths[0]),
                "probability": str(paths[1]),
                "picture": str(paths[2]),
                "intermediates": maps,
                "volume_ml": overlap.volume_ml(mask, study.spacing_mm),
                "lesions": lesions.components(mask)[1],
            }
        )
    return told


def _parts(name: str) -> tuple[str, str]:
    ending = ".nii.gz" if name.endswith(".nii.gz") else ".nii"
    return name[: -len(ending)], ending


if __name__ == "__main__":
    console.run(main)
