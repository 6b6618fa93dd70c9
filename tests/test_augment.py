"""The warp against NumPy's exact turns and flips, what travels together, and what the draw may not depend on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxstroke.augment import augment, intensity, warp
from jaxstroke.errors import UserError
from jaxstroke.experiment import Augment

EVERYTHING = Augment(
    probability=0.7, flip_left_right=True, flip_front_back=True, rotate_degrees=90, scale=(0.8, 1.2),
    shift_fraction=0.1, elastic_pixels=2.0, elastic_smooth_pixels=8.0, grid_fraction=0.3, optical=0.2,
    brightness=0.3, contrast=0.3, noise=0.1,
)  # fmt: skip
JITTED = jax.jit(augment, static_argnums=2)
_apply = jax.jit(warp.apply)


def _signed_distance(mask):
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    inside = ndimage.distance_transform_edt(mask)
    return np.where(mask, -(inside - 1), ndimage.distance_transform_edt(~mask)).astype(np.float32)


def _batch(examples=4, lead=(), size=24, channels=2, seed=0, smooth=0.0):
    """Heads with a background of exact zeros, and a round lesion in each slice."""
    random = np.random.default_rng(seed)
    shape = (examples, *lead, size, size)
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    head = (row**2 + column**2 < (0.45 * size) ** 2)[..., None]
    images = random.normal(size=(*shape, channels))
    if smooth:
        images = ndimage.gaussian_filter(images, [0] * (len(shape) - 2) + [smooth, smooth, 0])
    masks = np.zeros((*shape, 1), bool)
    for one in np.ndindex(shape[:-2]):
        across, down = random.uniform(-size / 6, size / 6, 2)
        masks[one][..., 0] = (row - down) ** 2 + (column - across) ** 2 < random.uniform(1, 1 + size / 6) ** 2
    distance = np.stack([_signed_distance(mask) for mask in masks.reshape(-1, size, size)])
    return {
        "images": jnp.asarray(images * head, jnp.float32),
        "masks": jnp.asarray(masks, jnp.float32),
        "distance": jnp.asarray(distance.reshape(masks.shape)),
        "valid": jnp.ones(shape[:-2], bool),
        "index": jnp.arange(examples) + 100,
    }


def _one(**options):
    """One example: images, masks, distance."""
    batch = _batch(1, **options)
    return batch["images"][0], batch["masks"][0], batch["distance"][0]


# --- nothing to do -----------------------------------------------------------------------------------------------


def test_with_every_change_off_the_batch_is_untouched():
    batch = _batch()
    for spec in (Augment(), Augment(probability=0.0, rotate_degrees=90, noise=1.0)):
        out = augment(jax.random.key(0), batch, spec)
        assert all(out[name] is batch[name] for name in batch)
        program = jax.make_jaxpr(lambda k, b, spec=spec: augment(k, b, spec))(jax.random.key(0), batch)
        assert not program.eqns


def test_a_change_that_is_not_drawn_is_an_exact_identity():
    batch = _batch()
    spec = Augment(**{**vars(EVERYTHING), "probability": 1e-9})
    out = JITTED(jax.random.key(0), batch, spec)
    for name in batch:
        np.testing.assert_array_equal(out[name], batch[name], err_msg=name)


@pytest.mark.parametrize("size", [7, 8, 24])
def test_the_neutral_geometry_is_an_exact_identity(size):
    arrays = _one(size=size)
    for out, array in zip(_apply(warp.Geometry(), *arrays), arrays, strict=True):
        np.testing.assert_array_equal(out, array)


# --- against exact turns, flips, shifts and zooms ----------------------------------------------------------------


@pytest.mark.parametrize("size", [23, 24])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(turns, size):
    images, masks, distance = _one(size=size, channels=3)
    out = _apply(warp.Geometry(angle=turns * math.pi / 2), images, masks, distance)
    np.testing.assert_array_equal(out[1], np.rot90(masks, turns))
    np.testing.assert_allclose(out[0], np.rot90(images, turns), atol=1e-4)
    np.testing.assert_allclose(out[2], np.rot90(distance, turns), atol=1e-4)


def test_flips_are_exact_and_on_the_right_axis():
    arrays = _one(size=9, lead=(3,))
    for flip, axis in (((-1.0, 1.0), -3), ((1.0, -1.0), -2)):
        for out, array in zip(_apply(warp.Geometry(flip=flip), *arrays), arrays, strict=True):
            np.testing.assert_array_equal(out, np.flip(array, axis))
    row, column = warp.draw(jax.random.key(0), Augment(probability=1.0, flip_left_right=True), 8, 8).flip
    assert (row, column) == (1, -1)
    row, column = warp.draw(jax.random.key(0), Augment(probability=1.0, flip_front_back=True), 8, 8).flip
    assert (row, column) == (-1, 1)


def test_a_shift_moves_the_picture_down_and_right_and_brings_in_zeros():
    images, masks, distance = (x + 1 for x in _one(size=10))
    out = _apply(warp.Geometry(shift=(2.0, 3.0)), images, masks, distance)
    for moved, array in zip(out[:2], (images, masks), strict=True):
        np.testing.assert_array_equal(moved[2:, 3:], array[:-2, :-3])
        assert not moved[:2].any() and not moved[:, :3].any()
    np.testing.assert_array_equal(out[2][2:, 3:], distance[:-2, :-3])
    np.testing.assert_array_equal(out[2][0, 3:], distance[0, :-3])  # the edge goes on


def test_a_zoom_enlarges_about_the_centre_and_distances_grow_with_it():
    size, zoom = 64, 1.5
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    mask = row**2 + column**2 < 12**2
    arrays = [jnp.asarray(x, jnp.float32)[..., None] for x in (mask, mask, _signed_distance(mask))]
    _, bigger, distance = _apply(warp.Geometry(zoom=zoom), *arrays)
    assert 0.9 < float(bigger.sum()) / (zoom**2 * mask.sum()) < 1.1
    truth = _signed_distance(np.asarray(bigger[..., 0]) > 0)
    assert np.abs(truth - distance[..., 0]).max() < 1.5


def test_distances_stay_near_the_truth_under_elastic_distortion():
    size = 64
    images, masks, distance = _one(size=size)
    spec = Augment(probability=1.0, elastic_pixels=2.0, elastic_smooth_pixels=16.0, rotate_degrees=30)
    out = _apply(warp.draw(jax.random.key(3), spec, size, size), images, masks, distance)
    truth = _signed_distance(np.asarray(out[1][..., 0]) > 0)
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    seen = row**2 + column**2 < (0.4 * size) ** 2  # the corners come from outside, where the edge's distances go on
    error = np.abs(truth - out[2][..., 0])[seen]
    assert (error < 1.0 + 0.25 * np.abs(truth[seen])).all()


def test_a_lesion_that_leaves_the_picture_takes_its_distances_along():
    images, masks, distance = _one(size=24, lead=(2,))
    masks, distance = masks.at[1].set(0.0), distance.at[1].set(0.0)
    _, out, far = _apply(warp.Geometry(shift=(23.0, 0.0)), images, masks, distance)
    assert not out.any() and not far.any()


def test_a_turn_and_its_inverse_come_back():
    arrays = _one(size=48, smooth=3.0)
    there = _apply(warp.Geometry(angle=0.4, zoom=1.1), *arrays)
    back = _apply(warp.Geometry(angle=-0.4, zoom=1 / 1.1), *there)
    middle = np.s_[12:36, 12:36]
    assert np.corrcoef(back[0][middle].ravel(), arrays[0][middle].ravel())[0, 1] > 0.99
    assert (back[1] != arrays[1]).mean() < 0.01
    np.testing.assert_allclose(back[2][middle], arrays[2][middle], atol=1.0)


def test_the_image_is_sampled_linearly_as_scipy_does():
    images, masks, distance = _one(size=17)
    spec = Augment(probability=1.0, rotate_degrees=40, scale=(0.8, 1.2), shift_fraction=0.1, elastic_pixels=1.0,
                   elastic_smooth_pixels=6.0, grid_fraction=0.3, optical=0.2)  # fmt: skip
    geometry = warp.draw(jax.random.key(1), spec, 17, 17)
    where = np.stack(warp.source_coordinates(geometry, 17, 17))
    image, _, far = _apply(geometry, images, masks, distance)
    for channel in range(2):
        oracle = ndimage.map_coordinates(np.asarray(images[..., channel]), where, order=1, mode="grid-constant")
        np.testing.assert_allclose(image[..., channel], oracle, atol=1e-4)
    oracle = ndimage.map_coordinates(np.asarray(distance[..., 0]), where, order=1, mode="nearest")
    np.testing.assert_allclose(far[..., 0], oracle * geometry.zoom, atol=1e-3)


# --- the shapes of the distortions -------------------------------------------------------------------------------


def test_elastic_displacement_has_the_deviation_and_correlation_length_it_says():
    size, length, deviation = 64, 8.0, 2.0
    spec = Augment(probability=1.0, elastic_pixels=deviation, elastic_smooth_pixels=length)
    keys = jax.random.split(jax.random.key(0), 200)
    field = np.asarray(jax.jit(jax.vmap(lambda key: jnp.stack(warp.draw(key, spec, size, size).elastic)))(keys))
    np.testing.assert_allclose(field.std(), deviation, rtol=0.03)
    for pixels in (4, 8, 16):
        expected = math.exp(-(pixels**2) / (2 * length**2))
        along_rows = (field[..., pixels:, :] * field[..., :-pixels, :]).mean() / deviation**2
        along_columns = (field[..., pixels:] * field[..., :-pixels]).mean() / deviation**2
        np.testing.assert_allclose([along_rows, along_columns], expected, atol=0.05)


def test_grid_lines_move_within_bounds_keep_the_border_and_never_cross():
    size = 51
    spec = Augment(probability=1.0, grid_fraction=0.45)
    rows, columns = jax.jit(jax.vmap(lambda key: warp.draw(key, spec, size, size).grid))(
        jax.random.split(jax.random.key(0), 50)
    )
    cell = (size - 1) / warp.GRID_CELLS
    for moves in (np.asarray(rows), np.asarray(columns)):
        assert np.abs(moves).max() <= 0.45 * cell
        np.testing.assert_array_equal(moves[:, [0, -1]], 0.0)
        assert (np.diff(np.arange(size) + moves) > 0).all()
        lines = np.linspace(0, size - 1, warp.GRID_CELLS + 1)
        for move in moves[:5]:
            np.testing.assert_allclose(move, np.interp(np.arange(size), lines, move[lines.astype(int)]), atol=1e-4)


def test_optical_distortion_is_radial():
    size, k = 33, 0.3
    rows, columns = warp.source_coordinates(warp.Geometry(optical=k), size, size)
    middle = (size - 1) / 2
    offsets = np.arange(size) - middle
    np.testing.assert_allclose(rows[:, 16] - middle, offsets * (1 + k * offsets**2 / (2 * middle**2)), rtol=1e-5)
    np.testing.assert_allclose(rows[0, 0] - middle, -middle * (1 + k), rtol=1e-5)  # radius 1 at the corner
    np.testing.assert_array_equal(rows, columns.T)


# --- what travels together, and what does not matter -------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_masks_stay_binary_and_everything_stays_finite(seed):
    batch = _batch(seed=seed % 1000)
    out = JITTED(jax.random.key(seed), batch, EVERYTHING)
    assert set(np.unique(out["masks"])) <= {0.0, 1.0}
    assert all(np.isfinite(out[name]).all() for name in ("images", "distance"))
    for mask, distance in zip(out["masks"], out["distance"], strict=True):
        assert mask.any() or not distance.any()


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_image_and_mask_go_the_same_way(seed):
    batch = _batch()
    batch["images"] = jnp.tile(batch["masks"], (1, 1, 1, 2))
    geometric = Augment(**{**vars(EVERYTHING), "brightness": 0.0, "contrast": 0.0, "noise": 0.0})
    out = JITTED(jax.random.key(seed), batch, geometric)
    image, mask = np.asarray(out["images"][..., :1]), np.asarray(out["masks"])
    # Where all four neighbours agree, linear and nearest sampling are the same.
    np.testing.assert_array_equal(mask[image > 0.999], 1.0)
    np.testing.assert_array_equal(mask[image < 0.001], 0.0)


def test_an_example_does_not_depend_on_its_company():
    batch, key = _batch(8), jax.random.key(5)
    first, second = np.array([0, 1, 2, 3]), np.array([2, 7, 5, 0])
    one, other = (JITTED(key, {name: array[order] for name, array in batch.items()}, EVERYTHING)
                  for order in (first, second))  # fmt: skip
    for name in batch:
        np.testing.assert_array_equal(other[name][np.array([3, 0])], one[name][np.array([0, 2])], err_msg=name)
    twins = {name: array[np.zeros(4, int)] for name, array in batch.items()} | {"index": batch["index"][first]}
    changed = JITTED(key, twins, EVERYTHING)["images"]
    assert not np.allclose(changed[0], changed[1]), "two slices that are alike are changed each in its own way"
    again = JITTED(jax.random.key(6), {name: array[first] for name, array in batch.items()}, EVERYTHING)
    assert not np.allclose(one["images"], again["images"])


def test_the_result_does_not_depend_on_the_devices():
    devices = jax.devices()
    if len(devices) < 4:
        pytest.skip("needs four CPU devices, which the whole suite's first import of JAX sets up")
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices[:4])
    batch = _batch(4)
    spread = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("data")))
    alone, together = (JITTED(jax.random.key(1), one, EVERYTHING) for one in (batch, spread))
    for name in ("images", "masks", "distance"):
        np.testing.assert_allclose(together[name], alone[name], atol=1e-5, err_msg=name)


def test_slices_of_a_clip_share_one_warp_and_padded_ones_stay_zero():
    batch = _batch(3, lead=(4,))
    for name in ("images", "masks", "distance"):
        batch[name] = batch[name].at[:, 2].set(batch[name][:, 0]).at[:, 3].set(0.0)
    batch["valid"] = batch["valid"].at[:, 3].set(False)
    quiet = Augment(**{**vars(EVERYTHING), "probability": 1.0, "noise": 0.0})
    out = JITTED(jax.random.key(2), batch, quiet)
    for name in ("images", "masks", "distance"):
        np.testing.assert_array_equal(out[name][:, 2], out[name][:, 0])
        assert not out[name][:, 3].any()
    assert not np.allclose(out["images"], batch["images"])
    noisy = JITTED(jax.random.key(2), batch, Augment(probability=1.0, noise=0.5))
    assert not noisy["images"][:, 3].any()
    assert not np.allclose(noisy["images"][:, 2], noisy["images"][:, 0])


def test_a_series_may_have_one_mask_for_all_its_time_points():
    series, slices = _batch(3, lead=(5,), channels=1), _batch(3, channels=1)
    geometric = Augment(probability=1.0, rotate_degrees=90)
    mixed = JITTED(jax.random.key(0), slices | {"images": series["images"]}, geometric)
    np.testing.assert_array_equal(mixed["masks"], JITTED(jax.random.key(0), slices, geometric)["masks"])
    np.testing.assert_array_equal(mixed["images"], JITTED(jax.random.key(0), series, geometric)["images"])


@pytest.mark.slow
def test_jit_changes_nothing():
    batch = _batch(4)
    plain, jitted = augment(jax.random.key(0), batch, EVERYTHING), JITTED(jax.random.key(0), batch, EVERYTHING)
    # Coordinates differ by rounding; a mask pixel may tip over only where it lies on the border between two pixels.
    np.testing.assert_allclose(jitted["images"], plain["images"], atol=1e-3)
    assert (jitted["masks"] != plain["masks"]).mean() < 1e-3


def test_each_change_is_drawn_on_its_own_with_the_given_probability():
    spec = Augment(probability=0.3, flip_left_right=True, rotate_degrees=30, scale=(0.8, 1.2), optical=0.1)
    drawn = jax.jit(jax.vmap(lambda key: warp.draw(key, spec, 8, 8)))(jax.random.split(jax.random.key(0), 4000))
    happened = np.stack([drawn.flip[1] < 0, drawn.angle != 0, drawn.zoom != 1, drawn.optical != 0])
    np.testing.assert_allclose(happened.mean(axis=1), 0.3, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(happened), np.eye(4), atol=0.06)
    assert (np.abs(drawn.angle) <= math.radians(30)).all()
    assert ((drawn.zoom >= 0.8) & (drawn.zoom <= 1.2)).all()


# --- intensities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["brightness", "contrast", "noise"])
def test_intensities_change_inside_the_head_only(word):
    batch = _batch()
    out = JITTED(jax.random.key(0), batch, Augment(probability=1.0, **{word: 0.3}))
    head = (np.asarray(batch["images"]) != 0).any(-1, keepdims=True)
    assert not (np.asarray(out["images"]) * ~head).any()
    assert not np.allclose(out["images"], batch["images"], atol=1e-3)
    for name in ("masks", "distance"):
        np.testing.assert_array_equal(out[name], batch[name])


def test_brightness_and_contrast_by_hand():
    images = _batch(1)["images"][0]
    head = np.asarray(images != 0).any(-1)
    brighter = intensity.random_intensity(jax.random.key(0), images, Augment(probability=1.0, brightness=0.5))
    starker = intensity.random_intensity(jax.random.key(0), images, Augment(probability=1.0, contrast=0.5))
    for channel in range(2):
        before, bright, stark = (np.asarray(x)[head][:, channel] for x in (images, brighter, starker))
        np.testing.assert_allclose(bright - before, (bright - before)[0], atol=1e-6)
        assert 0 < abs((bright - before)[0]) <= 0.5
        np.testing.assert_allclose(stark.mean(), before.mean(), atol=1e-5)
        factor = (stark - stark.mean()).std() / (before - before.mean()).std()
        np.testing.assert_allclose(stark - stark.mean(), factor * (before - before.mean()), atol=1e-4)
        assert 0.5 <= factor <= 1.5 and factor != 1


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word, value", [
    ("probability", 1.5), ("scale", (1.2, 0.8)), ("scale", (0.0, 1.0)), ("grid_fraction", 0.5), ("optical", 0.4),
    ("elastic_smooth_pixels", 0.0), ("elastic_pixels", -1.0), ("noise", -0.1), ("rotate_degrees", -5.0),
])  # fmt: skip
def test_a_senseless_bound_is_named(word, value):
    with pytest.raises(UserError, match=f"augment.{word}="):
        augment(jax.random.key(0), _batch(1), Augment(**{word: value}))
