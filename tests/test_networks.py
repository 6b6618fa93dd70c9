"""Counting: multiply-accumulates by hand, and the listing that prints them beside the papers' figures."""

import json
import subprocess
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxstroke import networks
from jaxstroke.errors import UserError
from jaxstroke.models import count, registry
from jaxstroke.models.nn.resize import resize_bilinear


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def module_macs(module, *inputs):
    variables = jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x), *inputs)
    return count.count_macs(module.apply, variables, *inputs)


@pytest.mark.parametrize(
    ("module", "image", "macs"),
    [
        (nn.Conv(8, (3, 3)), (2, 10, 12, 4), 2 * 10 * 12 * 9 * 4 * 8),
        (nn.Conv(8, (3, 3), strides=2, padding=1), (1, 10, 12, 4), 5 * 6 * 9 * 4 * 8),
        (nn.Conv(8, (3, 3), feature_group_count=4), (1, 10, 12, 4), 10 * 12 * 9 * 1 * 8),
        (nn.Conv(8, (3, 3), kernel_dilation=2), (1, 10, 12, 4), 10 * 12 * 9 * 4 * 8),
        (nn.Conv(8, (3, 3, 3)), (1, 5, 10, 12, 4), 5 * 10 * 12 * 27 * 4 * 8),
        (nn.ConvTranspose(8, (2, 2), strides=(2, 2)), (1, 10, 12, 4), 10 * 12 * 4 * 4 * 8),
        (nn.Dense(7), (2, 10, 4), 2 * 10 * 4 * 7),
        # Four projections of 20 tokens, then the products of every query with every key, and with every value.
        (nn.MultiHeadDotProductAttention(2), (1, 20, 8), 4 * 20 * 8 * 8 + 2 * 20 * 20 * 8),
    ],
)
def test_layers_by_hand(module, image, macs):
    assert module_macs(module, shape(*image)) == macs


def test_inner_programs_are_counted_as_often_as_they_run():
    matrix = shape(4, 4)

    def scanned(x):
        return jax.lax.scan(lambda carry, _: (jax.jit(jnp.matmul)(carry, carry), None), x, length=5)[0]

    def branched(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert count.count_macs(scanned, matrix) == 5 * 64
    assert count.count_macs(jax.checkpoint(scanned), matrix) == 5 * 64
    assert count.count_macs(branched, matrix) == 2 * 64
    assert count.count_macs(jax.vmap(scanned), shape(3, 4, 4)) == 3 * 5 * 64


def test_an_endless_loop_has_no_count():
    def looped(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="no fixed cost"):
        count.count_macs(looped, shape(4, 4))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap, jax.checkpoint])
def test_interpolation_is_not_counted(wrap):
    def enlarge_and_square(x):
        x = resize_bilinear(x, (8, 8))[..., 0]
        return x @ x

    assert count.count_macs(wrap(enlarge_and_square), shape(2, 4, 4, 1)) == 2 * 8**3


def test_statistics_are_no_parameters():
    variables = jax.eval_shape(
        lambda: nn.BatchNorm(use_running_average=True).init(jax.random.key(0), jnp.zeros((1, 6)))
    )
    assert count.parameters(variables) == 12
    assert count.elements(variables["batch_stats"]) == 12
    assert count.mib(2**18) == 1.0


@pytest.mark.slow
def test_listing_of_one_network(capsys):
    assert networks.main(["--network", "dme_net", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["name"] for line in lines] == [
        "dme_net", "dme_net/no_temporal", "dme_net/no_spatial", "dme_net/no_memories"
    ]  # fmt: skip
    full = lines[0]
    assert full["parameters"] == 14_317_745 and full["network"] == "dme_net" and full["input"] == [1, 160, 160, 5]
    assert full["mib"] == pytest.approx(14_317_745 * 4 / 2**20, abs=1e-3)
    assert full["gmac"] == pytest.approx(5.516, abs=1e-3)
    assert full["published"] == []


@pytest.mark.slow
def test_deviation_from_a_published_figure(monkeypatch, capsys):
    published = registry.Published("Table 9", parameters=10e6, mib=54.62, gmac=None, note="read as size")
    entry = registry.Entry("dme_net/printed", "dme_net", 160, (4, 1), published=(published,))
    monkeypatch.setattr(registry, "catalogue", lambda: (entry,))
    monkeypatch.setattr(registry, "rules", dict)
    (line,) = networks.listing()
    (one,) = line["published"]
    assert one["deviation_percent"] == {"parameters": 43.18, "mib": 0.0}
    networks.main([])
    shown = capsys.readouterr().out
    assert "10.00 (+43.2 %)" in shown and "54.62 (+0.0 %)" in shown
    assert "- dme_net/printed, Table 9: read as size" in shown


def test_rules_are_listed_without_weights():
    for name, rule in registry.rules().items():
        (line,) = networks.listing(name)
        assert line["parameters"] == 0 and line["gmac"] == 0 and line["input"] == list(rule.needs)


def test_unknown_network_is_named():
    with pytest.raises(UserError, match="--network dme_met: .* Did you mean dme_net"):
        networks.listing("dme_met")


def test_help_does_not_wait_for_jax():
    program = "import sys, jaxstroke.networks as door\ntry: door.main(['--help'])\nfinally: print('jax' in sys.modules)"
    begun = time.process_time()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "--json" in done.stdout and done.stdout.endswith("False\n")
    assert time.process_time() - begun < 0.5
