"""What is on disk says its form; a run folder that an older program wrote is read, trained on and used."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxstroke import evaluate, files, predict, train
from jaxstroke.data.cache import format as caches
from jaxstroke.errors import UserError
from jaxstroke.files import formats
from jaxstroke.runs import folder as runs

# Written by commit 0612379, which knew no formats, jax 0.10.2, one CPU device:
#   train --exp unet_isles18 --out RUN --set data.size=32 --set data.batch=4 --set model.width=2 \
#     --set data.phantom_cases=6 --set data.folds=3 --set training.epochs=1 --set training.steps_per_epoch=2 \
#     --set training.validate_every_epochs=1 --set training.patience_epochs=none
# (without the events, the picture and the lock; zipped, as most of it is Orbax's descriptions of the arrays)
KEPT = Path(__file__).parent / "kept" / "run_of_0612379.zip"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    with zipfile.ZipFile(KEPT) as archive:
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


def test_an_older_run_folder_is_read(kept: Path) -> None:
    run = runs.RunFolder(kept)
    assert formats.KEY not in run.about(), "it is as it was"
    assert run.experiment().name == "unet_isles18" and [row["step"] for row in run.journal.rows()] == [2]
    assert run.checkpoints().steps() == [2] and run.checkpoints().damage(2) is None


@pytest.mark.slow
def test_an_older_run_is_judged_as_it_was_used_and_trained_on(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(kept)]) == 0
    study = runs.RunFolder(kept).about()["split"]["test"][0]
    capsys.readouterr()
    (row,) = runs.RunFolder(kept).journal.rows()
    given = json.loads((kept / "experiment.json").read_text())
    again = [f"data.{name}={given['data'][name]}" for name in ("size", "batch", "phantom_cases", "folds")]
    again += [f"training.{name}={given['training'][name]}" for name in ("steps_per_epoch", "validate_every_epochs")]
    again += ["model.width=2", "training.patience_epochs=none"]
    words = [word for one in again for word in ("--set", one)]
    door = ["--exp", "unet_isles18", "--out", str(kept), "--resume", "--epochs", "2", *words]
    # The phantom has changed since, which is rightly called other data; what is asked here is only whether it is read.
    with pytest.raises(UserError, match="begun on other data") as refused:
        train.main(door)
    (now,) = re.findall("now ([0-9a-f]{16})", str(refused.value))
    about = json.loads((kept / "about.json").read_text())
    files.write_json(kept / "about.json", {**about, "data_fingerprint": now})
    assert train.main(door) == 0
    assert f"resuming {kept} from step 2" in capsys.readouterr().out
    rows = runs.RunFolder(kept).journal.rows()
    assert rows[0] == row and rows[1]["step"] == 4 and np.isfinite(rows[1]["loss"])
    source = next(Path(train_data(kept)).rglob(study))
    assert predict.main([str(kept), str(source), "-o", str(tmp_path / "out")]) == 0


def train_data(run: Path) -> str:
    from jaxstroke import user_cache
    from jaxstroke.data.source import embedded_phantom

    return str(embedded_phantom(runs.RunFolder(run).experiment().data, user_cache.folder()))


def test_a_run_folder_of_a_newer_program_is_one_line(kept: Path) -> None:
    about = {**json.loads((kept / "about.json").read_text()), formats.KEY: 2, "jaxstroke": "9.1"}
    files.write_json(kept / "about.json", about)
    told = f"{kept}: jaxstroke 9.1 wrote this run folder in format 2, and this program reads format 1"
    for use in (lambda: predict.main([str(kept), ".", "-o", "x"]), lambda: evaluate.main([str(kept)])):
        with pytest.raises(UserError, match=told):
            use()
    for form, told in (("two", "two"), ("x" * 5000, "x{57}[.]{3}")):  # a line stays one that can be read
        files.write_json(kept / "about.json", {**about, formats.KEY: form})
        with pytest.raises(UserError, match=f"its format is {told}, which is no number"):
            runs.RunFolder(kept).experiment()


def test_a_run_says_its_format() -> None:
    about = runs.describe(device={}, seed=0, data={})
    assert about[formats.KEY] == formats.RUN_FOLDER


def test_data_prepared_in_another_format_are_not_called_other_data(kept: Path) -> None:
    run = runs.RunFolder(kept)
    about = {**run.about(), "data_fingerprint": "0123456789abcdef"}
    with pytest.raises(UserError, match="begun on other data .fingerprint"):
        run.start(run.experiment(), about)
    with pytest.raises(UserError, match="prepared in format 2, and this program prepares them in format 3"):
        run.start(run.experiment(), {**about, "cache_format": 3})


def test_a_cache_of_another_format_is_one_line(tmp_path: Path) -> None:
    caches.write_json(tmp_path / caches.INDEX, {"format": 99, "studies": []})
    with pytest.raises(UserError, match=f"this cache is of format 99, .* reads format {caches.FORMAT}; delete"):
        caches.Cache.open(tmp_path)


def test_exported_weights_of_a_newer_program_are_one_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from jaxstroke.torch_twin import reading

    path = tmp_path / "w.safetensors"
    for form, told in (("2", "wrote this file of exported weights in format 2"), ("x", "its format is x")):
        save_file({"a": torch.ones(1)}, path, metadata={formats.IN_WEIGHTS: form})
        with pytest.raises(UserError, match=told):
            reading.read_state_dict(path)
    save_file({"a": torch.ones(1)}, path, metadata={"format": "pt"})  # what others write there
    assert set(reading.read_state_dict(path)) == {"a"}
