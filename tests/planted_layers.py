"""Faults in the layers whose arithmetic is written here, and in how a batch goes through them; see `planted.py`."""

from __future__ import annotations

from fault import in_file

_AT_ANY_SIZE = "test_convolution.py::test_winograds_form_is_the_convolution_at_any_size"
WINOGRAD = in_file(
    "jaxstroke/models/nn/winograd.py",
    ("Winograd: the last difference turned round", "two, two - four", "two, four - two", _AT_ANY_SIZE),
    ("Winograd: an odd row is lost", "(height + 1) // 2", "height // 2", _AT_ANY_SIZE),
    ("Winograd: the gradient spreads with a wrong sign", "one - two, -two", "one - two, two", _AT_ANY_SIZE),
) + in_file(
    "jaxstroke/models/nn/convolution.py",
    ("Winograd: in bfloat16 too", "x.dtype == jnp.float32", "x.dtype != jnp.float64", "test_convolution.py"),
)  # fmt: skip


REPLAY = in_file(
    "jaxstroke/models/nn/blocks.py",
    ("doubling: the window as it is", "kernel[::-1, ::-1]", "kernel",
     "test_sums.py::test_a_doubling_convolution_is_that_of_flax"),
) + in_file(
    "jaxstroke/models/nn/replay.py",
    ("replay: no gradient of the decoder's convolutions", "return jnp.zeros_like(g), g", "return g, jnp.zeros_like(g)",
     "test_dme_net.py::test_training_decodes_with_what_the_walk_convolved"),
    ("replay: kept on every platform", "default=lambda value, computed: computed",
     "default=lambda value, computed: value",
     "test_dme_net.py::test_other_platforms_than_the_cpu_keep_no_convolutions_of_the_walk"),
    ("replay: the walk is differentiated through the decoder", "jax.lax.stop_gradient(answer)", "answer",
     "test_dme_net.py::test_training_decodes_with_what_the_walk_convolved"),
)  # fmt: skip


SUMS = in_file(
    "jaxstroke/models/nn/sums.py",
    ("sums: the first row of pixels alone", "rows.sum(lead[1:])", "rows[:, 0].sum(lead[1:-1])", "test_sums.py"),
    ("sums: a mean's gradient without the factor", "-factor * total", "-total", "test_sums.py"),
    ("sums: the factor's gradient about zero", "g * (x - to_pixels(mean, x.ndim))", "g * x", "test_sums.py"),
    ("sums: by products on every platform", "cpu=_by_rows, default=_plain", "default=_by_rows",
     "test_sums.py::test_only_a_cpu_sums_by_products"),
) + in_file(
    "jaxstroke/models/nn/norm.py",
    ("batch normalisation: the batch's statistics in use", "if train else (mean.value, var.value)",
     "if x.size else (mean.value, var.value)", "test_torch_parity.py::test_every_variant_answers_as_its_twin[unet]"),
    ("batch normalisation: a variance of all slices", "over_pixels(one).sum(0) for one in (there, there * x)",
     "over_pixels(one).sum(0) for one in (there, x * x)", "test_volume_padding.py"),
    ("group normalisation: one group", "self.groups, each).sum(-1, keepdims=True)",
     "self.groups, each).sum((-1, -2), keepdims=True) / self.groups + jnp.zeros((1, self.groups, 1))",
     "test_sums.py::test_group_normalisation_is_that_of_flax"),
)  # fmt: skip


_AFTER = "test_one_after_another.py::"
ONE_BY_ONE = in_file(
    "jaxstroke/models/apply.py",
    ("one after another: the first example for all", "(array[None] for array in example)", "(a[:1] for a in batch)",
     _AFTER + "test_every_output_is_that_of_the_batch[mdanet_isles18]"),
) + in_file(
    "jaxstroke/sharding.py",
    ("one after another: on several devices too", "return mesh.size == 1 and mesh.devices", "return mesh.devices",
     _AFTER + "test_it_is_for_one_cpu_alone"),
) + in_file(
    "jaxstroke/inference/predictor.py",
    ("one after another: on an accelerator too", "return run(*inputs) if sharding.on_accelerator() else apply.",
     "return apply.", _AFTER + "test_a_prediction_takes_the_form_of_its_device"),
)  # fmt: skip
