"""Every network against its PyTorch twin: forward, gradients, statistics, steps; and the rules between them."""

from __future__ import annotations

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from jaxstroke.models import registry as linen

torch = pytest.importorskip("torch", reason="PyTorch is not installed: the twins cannot be compared (extra: torch)")

from jaxstroke import parity, schedules  # noqa: E402
from jaxstroke.comparison import batches, differences, sides, specimen  # noqa: E402
from jaxstroke.experiment import Optimiser, Schedule  # noqa: E402
from jaxstroke.torch_twin import arrays, optimisers, registry, weights  # noqa: E402

pytestmark = pytest.mark.torch
CPU = {"jax_device": jax.devices("cpu")[0], "torch_device": torch.device("cpu")}
NETWORKS = sorted(linen.networks())
# Lines that differ from another one in nothing but the size or the number of channels.
VARIANTS = sorted({str((e.network, sorted(e.options.items()))): e.name for e in reversed(linen.catalogue())}.values())
PAPERS = ("cascade", "cross_domain", "dme_net", "mda_net", "unet")
QUICK = ("cascade", "cross_domain/v1", "dme_net", "mda_net", "unet")


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door takes ten. One shows a wrong gradient or update, two what is carried from step to step."""
    monkeypatch.setattr(differences, "STEPS", 2)
    monkeypatch.setattr(differences, "DRAWS", 2)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_network_has_a_twin() -> None:
    assert set(registry.twins()) == set(linen.networks())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in VARIANTS]
)
def test_every_variant_answers_as_its_twin(name: str) -> None:
    """The same drawn weights, in which no two arrays are alike, give the same outputs; and they come back unchanged."""
    one = specimen.specimen(name)
    variables = specimen.draw_weights(one.shapes(), seed=1)
    twin = one.twin()
    state = weights.to_torch(variables, twin)
    twin.load_state_dict(state)
    back = weights.flatten(weights.to_flax(state, twin, variables, source="test"))
    assert back.keys() == weights.flatten(variables).keys()
    assert all(np.array_equal(array, back[path]) for path, array in weights.flatten(variables).items())

    batch = batches.draw_batch(one.data, seed=1)
    inputs = (batch["images"], batch["valid"]) if one.data.example == "clip" else (batch["images"],)
    ours = jax.jit(lambda v, *x: one.network().apply(v, *x, train=False))(variables, *inputs)
    given = [arrays.to_torch(batch["images"], one.data.kind), *map(torch.from_numpy, inputs[1:])]
    with torch.no_grad():
        theirs = twin(*given)
    assert len(theirs.side_logits) == len(ours.side_logits)
    assert theirs.features.keys() == ours.features.keys()
    pairs = [(ours.logits, theirs.logits), *zip(ours.side_logits, theirs.side_logits, strict=True)]
    pairs += [(ours.features[name], theirs.features[name]) for name in ours.features]
    for a, b in pairs:
        assert differences.relative_error(np.asarray(a), arrays.to_numpy(b, one.data.kind)) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_training_agrees(name: str) -> None:
    """The papers' networks in both widths; of the others float32's forward is compared above."""
    found = differences.compare(_smaller(specimen.specimen(name)), seed=0, bfloat16=False, **CPU)
    assert not found.missed(), found
    assert found.float32.loss < 1e-5 and found.float64.loss < 1e-12
    assert found.null_entries < 0.05 * found.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(PAPERS)))
def test_training_agrees_in_float64(name: str) -> None:
    """Gradients, statistics and steps where no rounding explains a difference."""
    one = _smaller(specimen.specimen(name))
    found, null = differences.in_float64(one, *differences.draw(one, 0), **CPU)
    assert not differences.above_bars(found, differences.BARS_FLOAT64), found
    assert found.forward < 1e-12 and found.loss < 1e-12
    entries = list(null.entries.values())
    assert sum(int(one.sum()) for one in entries) < 0.05 * sum(one.size for one in entries)


def _smaller(one: specimen.Specimen) -> specimen.Specimen:
    """Of half the size, where its network has no size of its own: nothing is optimised here, so that sums take long."""
    data = one.experiment.data
    if one.name == "swin_unet" or data.size < 64:
        return one
    halved = dataclasses.replace(data, size=data.size // 2)
    return dataclasses.replace(one, experiment=dataclasses.replace(one.experiment, data=halved))


@dataclasses.dataclass(frozen=True)
class _Faulty(specimen.Specimen):
    """A specimen whose twin differs in one thing."""

    fault: str

    def twin(self):
        twin = super().twin()
        for module in twin.modules():
            if hasattr(module, self.fault):
                setattr(module, self.fault, {"epsilon": 1e-3, "momentum": 0.5}[self.fault])
        return twin


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "name", "missed"),
    [
        ("epsilon", "unet", {"forward", "gradients", "gradients_float64", "statistics_float64", "ten_steps_float64"}),
        ("momentum", "unet", {"statistics", "statistics_float64"}),
        ("no flip", "attention_unet", {"forward", "gradients", "gradients_float64", "ten_steps_float64"}),
    ],
)
def test_a_wrong_twin_is_found(monkeypatch: pytest.MonkeyPatch, fault: str, name: str, missed: set[str]) -> None:
    """The comparison is no rubber stamp: a fault in the twin fails in float32, and in float64 as well."""
    if fault == "no flip":  # of the windows of transposed convolutions
        unflipped = weights.Rule(
            "weight", lambda kernel: np.moveaxis(kernel, (-2, -1), (0, 1)), lambda w: np.moveaxis(w, (0, 1), (-2, -1))
        )
        monkeypatch.setattr(weights, "_TRANSPOSED", unflipped)
    one = specimen.specimen(name)
    wrong = _Faulty(one.name, one.recipe, one.experiment, fault)
    found = differences.compare(wrong, seed=0, bfloat16=False, **CPU)
    assert missed <= set(found.missed()), found


FINE = differences.Figures(0.0, 0.0, 0.0, None, 0.0, {})


def _judged(rounded: dict[str, float], exact: dict[str, float]) -> list[str]:
    found = (dataclasses.replace(FINE, **changes) for changes in (rounded, exact))
    return differences.Comparison("x", "x", "cpu", 0, 1, 0, *found, None).missed()


def test_float64_is_the_judge_of_what_float32_misses() -> None:
    assert _judged({"gradients": 1e-2, "ten_steps": 0.5}, {"gradients": 1e-11, "ten_steps": 1e-9}) == []
    assert _judged({"ten_steps": 0.5}, {"ten_steps": 1e-5}) == ["ten_steps", "ten_steps_float64"]
    assert _judged({}, {"gradients": 1e-8}) == ["gradients_float64"]
    # No rounding of float64 says anything about these.
    assert _judged({"forward": 1e-4, "statistics": 1e-4}, {}) == ["forward", "statistics"]


def test_a_figure_that_is_not_a_number_misses_its_bar() -> None:
    assert _judged({"forward": math.nan, "gradients": math.nan}, {"ten_steps": math.inf}) == [
        "forward", "gradients", "ten_steps_float64"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["constant", "halving", "warmup_cosine"])
def test_schedules_agree_at_every_step(name: str) -> None:
    schedule = Schedule(name, half_every_epochs=2, warmup_epochs=3)  # type: ignore[arg-type]
    optimiser = Optimiser("adam", learning_rate=5e-3)
    span = {"steps_per_epoch": 4, "epochs": 9}
    ours = schedules.learning_rate(schedule, optimiser, **span)
    theirs = optimisers.learning_rate(schedule, optimiser, **span)
    for step in range(40):
        assert theirs(step) == pytest.approx(float(ours(step)), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamw_unscaled"])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_optimisers_agree_step_by_step(name: str, clip: float | None) -> None:
    spec = Optimiser(name, learning_rate=0.1, weight_decay=0.01, clip_variable_norm=clip)  # type: ignore[arg-type]
    ours = schedules.build_optimiser(spec, lambda step: 0.1 / (1 + step))
    start = np.array([1.0, -2.0, 3.0], np.float32)
    params, parameter = {"w": jax.numpy.asarray(start)}, torch.nn.Parameter(torch.from_numpy(start.copy()))
    theirs = optimisers.Optimiser(spec, lambda step: 0.1 / (1 + step), [parameter])
    state = ours.init(params)
    random = np.random.default_rng(0)
    for _ in range(5):
        gradient = random.normal(size=3).astype(np.float32)
        updates, state = ours.update({"w": jax.numpy.asarray(gradient)}, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        parameter.grad = torch.from_numpy(gradient.copy())
        theirs.step()
        np.testing.assert_allclose(parameter.detach().numpy(), np.asarray(params["w"]), rtol=1e-5)


def test_running_variance_is_the_biased_one() -> None:
    """By hand: the values 1 and 3 have variance 1 (biased) and 2 (unbiased); momentum 0.9 keeps nine tenths of 1."""
    from jaxstroke.torch_twin.nn.blocks import BiasedBatchNorm

    layer = BiasedBatchNorm(1, momentum=0.9, epsilon=1e-5).train()
    layer(torch.tensor([[1.0], [3.0]]).reshape(2, 1, 1, 1))
    assert layer.running_mean.item() == pytest.approx(0.2)
    assert layer.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 1)


def test_a_transposed_convolution_is_flipped() -> None:
    """A kernel with one number in a corner puts it into the same corner in both libraries."""
    kernel = np.zeros((2, 2, 1, 1), np.float32)
    kernel[0, 1] = 1.0
    twin = torch.nn.Module()
    twin.up = torch.nn.ConvTranspose2d(1, 1, 2, stride=2)
    tree = {"params": {"up": {"kernel": kernel, "bias": np.zeros(1, np.float32)}}}
    twin.load_state_dict(weights.to_torch(tree, twin))
    import flax.linen as nn

    layer = nn.ConvTranspose(1, (2, 2), (2, 2), padding="VALID")
    flax = layer.apply({"params": tree["params"]["up"]}, np.ones((1, 1, 1, 1)))
    theirs = twin.up(torch.ones(1, 1, 1, 1)).detach().numpy()[0, 0]
    assert np.array_equal(theirs, np.asarray(flax)[0, ..., 0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card here")
def test_without_a_card_it_says_so_and_uses_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used = []
    monkeypatch.setattr(parity, "_compare", lambda args, here: used.append(here.torch_device.type) or [])
    assert parity.main(["--device", "cuda", "--json"]) == 0
    told = capsys.readouterr()
    assert used == ["cpu"] and json.loads(told.out) == []
    assert "PyTorch finds no CUDA card" in told.err and "run on the CPU" in told.err


@pytest.mark.parametrize("name", ["unet", "unet3d", "perfu_net", "dme_net"])
def test_channels_last_changes_no_number(name: str) -> None:
    """Of maps, volumes, series and clips: the manner of the timing that lays memory out anew."""
    one = specimen.specimen(name)
    variables, batch = specimen.draw_weights(one.shapes(), 0), batches.draw_batch(one.data, 0)
    plain, last = (sides.TorchSide(one, variables, CPU["torch_device"], channels_last=way) for way in (False, True))
    answers = (side.forward(batch)["logits"] for side in (last, plain))
    assert differences.relative_error(*answers) < 1e-5
    last.step(batch)


@pytest.mark.slow
def test_the_door_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--network", "unet", "--json"]) == 0
    printed = capsys.readouterr()
    (line,) = json.loads(printed.out)
    assert {"network", "device", "forward", "gradients", "ten_steps", "ten_steps_float64"} <= line.keys()
    assert line["network"] == "unet" and line["device"] == "cpu" and line["forward"] <= 1e-5
    assert line["about"]["torch"] == torch.__version__ or line["about"]["torch"] in torch.__version__
