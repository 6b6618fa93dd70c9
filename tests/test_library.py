"""The package as a library: its page's code runs as it stands, and its front names what is public."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_studies import isles2022_root, lesion

import jaxstroke
from jaxstroke.comparison import specimen
from jaxstroke.data.study import read_study
from jaxstroke.experiment import catalogue, overrides
from jaxstroke.models import apply
from jaxstroke.runs import folder as runs

ROOT = Path(__file__).parent.parent
SHAPE = (4, 40, 40)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was never trained and a data set of one study."""
    folder = tmp_path_factory.mktemp("library")
    isles2022_root(folder / "data", [lesion(SHAPE, {1: (15, 15), 2: (15, 15)}, side=6)])
    wanted = overrides.override(catalogue.load("unet_isles22", scale="small"), {"data.size": 32})
    run = runs.RunFolder(folder / "runs" / "x")
    run.start(wanted, runs.describe(device={}, seed=0, data=ABOUT))
    shapes = jax.eval_shape(lambda key: apply.initialise(apply.build(wanted), wanted.data, key), jax.random.key(0))
    drawn = jax.tree.map(jnp.asarray, specimen.draw_weights(shapes, 5))
    checkpoints = run.checkpoints()
    checkpoints.save(7, {"weights": {"batch_stats": {}, **drawn}}, {"best_steps": {}})
    checkpoints.close()
    return folder


ABOUT = {"phantom": True, "data": "", "data_fingerprint": "x", "split": {"train": [], "validation": [], "test": []}}


@pytest.mark.slow
def test_every_block_of_the_page_runs_in_a_plain_script(place: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)
    assert len(blocks) >= 6
    script = place / "script.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, str(script)], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (place / "phantom" / "phantom.json").exists()
    assert len(done.stdout.splitlines()) == 5, "each line is printed once: no process ran the script again"


def test_arrays_and_files_have_the_same_answer(place: Path) -> None:
    network = jaxstroke.load(place / "runs" / "x")
    assert network.images == ("DWI", "ADC") and network.targets == ("lesion",) and network.trained_on_phantom
    prediction = network.predict(place / "data" / "sub-strokecase0001")
    assert prediction.mask.shape == SHAPE and prediction.probabilities["lesion"] is prediction.probability
    assert prediction.volume_ml == pytest.approx(prediction.mask.sum() * np.prod(prediction.study.spacing_mm) / 1000)
    images = {word: image.tolist() for word, image in prediction.study.images.items()}
    again = network.predict(images, prediction.study.spacing_mm)
    np.testing.assert_array_equal(again.probability, prediction.probability)


def test_an_array_study_lies_as_its_file_would(place: Path) -> None:
    from jaxstroke.data.layouts import find_layout
    from jaxstroke.data.study import grid_of

    case = find_layout("isles2022").find(place / "data")[0]
    found = read_study(case, images=("DWI", "ADC"))
    made = jaxstroke.study(found.images, found.spacing_mm, layout="isles2022")
    np.testing.assert_array_equal(
        made.grid.orientation, grid_of(made.grid.header, find_layout("isles2022")).orientation
    )
    assert made.grid.to_file(made.images["DWI"]).shape == made.grid.header.shape


def test_mistakes_are_one_line(place: Path) -> None:
    network, image = jaxstroke.load(place / "runs" / "x"), np.ones(SHAPE)
    for call, told in (
        (lambda: network.predict({"DWI": image, "ADC": image}), "spacing_mm is missing"),
        (lambda: network.predict({"DWI": image}, (1, 1, 1)), "has no image ADC"),
        (lambda: network.predict({"DWI": image, "ADC": image[1:]}, (1, 1, 1)), "bring them to one grid"),
        (lambda: network.predict({"DWI": image[0], "ADC": image}, (1, 1, 1)), r"must be \(slice, row, column\)"),
        (lambda: network.predict({"DWI": image * np.nan, "ADC": image}, (1, 1, 1)), "not finite"),
        (lambda: network.predict({"DWI": image, "ADC": image}, (1, 0, 1)), "three positive numbers"),
        (lambda: network.predict(place / "none"), "no such folder"),
        (lambda: jaxstroke.load(place / "none"), "no run folder"),
    ):
        with pytest.raises(jaxstroke.UserError, match=told):
            call()


def test_importing_takes_no_time_and_brings_nothing_slow() -> None:
    program = (
        "import sys, time; begun = time.perf_counter(); import jaxstroke; took = time.perf_counter() - begun\n"
        "slow = {'jax', 'numpy', 'flax', 'nibabel', 'scipy'} & sys.modules.keys()\n"
        "assert not slow, slow\nprint(took)"
    )
    command = [sys.executable, "-c", program]
    took = [
        float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout) for _ in range(5)
    ]
    assert min(took) < 0.1


def test_what_is_public_is_there_typed_and_documented() -> None:
    stub = (ROOT / "jaxstroke" / "__init__.pyi").read_text()
    assert (ROOT / "jaxstroke" / "py.typed").exists()
    for name in jaxstroke.__all__:
        assert name in dir(jaxstroke) and hasattr(jaxstroke, name)
        assert re.search(rf"\b{name}\b", stub)
        assert name == "__version__" or getattr(jaxstroke, name).__doc__
    assert callable(jaxstroke.score)
    with pytest.raises(AttributeError):
        jaxstroke.nothing  # noqa: B018  # pyright: ignore


def test_citation_and_changes_are_of_this_version() -> None:
    assert f"\nversion: {jaxstroke.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {jaxstroke.__version__}" in (ROOT / "CHANGELOG.md").read_text()
