"""Small faults, and beside each the tests that must notice it; `scripts/mutants` plants them, one at a time.

A fault is a piece of text that stands once in its file, and what takes its place.  `test_mutants.py` holds that the
piece is still there and that the tests still exist.  Which fault was noticed by what is in docs/mutants.md.
"""

from __future__ import annotations

from fault import in_file as _in
from planted_layers import ONE_BY_ONE, REPLAY, SUMS, WINOGRAD

LOSSES = _in(
    "jaxstroke/losses.py",
    ("soft Dice: the overlap counts once", "(2.0 * both + DICE", "(both + DICE", "test_losses.py"),
    ("soft Dice: hardly any smoothing", "DICE_SMOOTH_PIXELS = 1.0", "DICE_SMOOTH_PIXELS = 1e-5", "test_losses.py"),
    ("cross-entropy: class weights swapped",
     "lesion_weight * masks * lesion + background_weight * (1.0 - masks) * background",
     "background_weight * masks * lesion + lesion_weight * (1.0 - masks) * background", "test_losses.py"),
    ("focal: the focus of the other class", "jnp.exp(-gamma * background)", "jnp.exp(-gamma * lesion)",
     "test_losses.py"),
    ("focal: a mean over targets", "targets * _masked_mean(loss", "_masked_mean(loss", "test_losses.py"),
    ("levels: weights reversed", "zip(level_weights, losses", "zip(level_weights[::-1], losses", "test_losses.py"),
    ("similarity: inside the lesion", "healthy = 1.0 - jnp.max(", "healthy = jnp.max(", "test_losses.py"),
    ("boundary: probabilities of the background", "_masked_mean(probabilities * at",
     "_masked_mean((1.0 - probabilities) * at", "test_losses.py"),
    ("means: padding counts", "count = jnp.sum(at_least_float32(valid)) *", "count = float(valid.size) *",
     "test_losses.py::test_padding_changes_nothing"),
    ("sum of terms: weights dropped", "weight * values[name] for", "values[name] for", "test_losses.py"),
)  # fmt: skip

SCHEDULES = _in(
    "jaxstroke/schedules.py",
    ("halving: a step early", "jnp.asarray(step) // period", "(jnp.asarray(step) + 1) // period", "test_schedules.py"),
    ("cosine: warm-up not counted in", "decay_steps=epochs * steps_per_epoch,  # Optax",
     "decay_steps=(epochs + schedule.warmup_epochs) * steps_per_epoch,  # Optax", "test_schedules.py"),
    ("warm-up: in steps instead of epochs", "warmup_steps=schedule.warmup_epochs * steps_per_epoch",
     "warmup_steps=schedule.warmup_epochs", "test_schedules.py"),
    ("decay: weights grow", "optax.add_decayed_weights(-decay)", "optax.add_decayed_weights(decay)",
     "test_schedules.py"),
    ("AdamW: decay inside of Adam", "(adam, optax.add_decayed_weights(decay), ",
     "(optax.add_decayed_weights(decay), adam, ", "test_schedules.py"),
    ("clipping: short gradients are lengthened", "jnp.maximum(length, norm)", "jnp.maximum(length, 1e-6)",
     "test_schedules.py::test_each_variable_is_clipped_on_its_own"),
)  # fmt: skip

WARP = _in(
    "jaxstroke/augment/warp.py",
    ("zoom: distances stay", "distance * geometry.zoom, 0.0", "distance, 0.0",
     "test_augment.py::test_a_zoom_enlarges_about_the_centre_and_distances_grow_with_it"),
    ("rotation: the other way", "flip_rows * sine, -flip_columns * sine", "-flip_rows * sine, flip_columns * sine",
     "test_augment.py::test_quarter_turns_are_those_of_numpy"),
    ("flips: front to back drawn for left to right", "flipped_rows & spec.flip_front_back",
     "flipped_rows & spec.flip_left_right", "test_augment.py::test_flips_are_exact_and_on_the_right_axis"),
    ("shift: up for down", "bend * down - geometry.shift[0]", "bend * down + geometry.shift[0]",
     "test_augment.py::test_a_shift_moves_the_picture_down_and_right_and_brings_in_zeros"),
    ("masks: the pixel below", "top + (low >= 0.5)", "top + (low >= 0.0)",
     "test_augment.py::test_a_change_that_is_not_drawn_is_an_exact_identity"),
    ("images: edges smeared outwards", "_over(jnp.where(inside, weight, 0.0)",
     "_over(jnp.where(inside, weight, weight)",
     "test_augment.py::test_a_shift_moves_the_picture_down_and_right_and_brings_in_zeros"),
)  # fmt: skip

CHANGES = _in(
    "jaxstroke/augment/__init__.py",
    ("every example changed alike", "jax.random.fold_in(key, index)", "jax.random.fold_in(key, 0 * index)",
     "test_augment.py::test_an_example_does_not_depend_on_its_company"),
) + _in(
    "jaxstroke/augment/intensity.py",
    ("contrast: about the mean of air too", "jnp.maximum(jnp.sum(head), 1)", "jnp.maximum(head.size, 1)",
     "test_augment.py::test_brightness_and_contrast_by_hand"),
    ("brightness: of air too", "jnp.where(head, changed, 0.0)", "jnp.where(True, changed, 0.0)",
     "test_augment.py::test_intensities_change_inside_the_head_only"),
)  # fmt: skip

STREAM = _in(
    "jaxstroke/data/stream.py",
    ("resuming: from the start", "self._first_step + int(number)", "int(number)",
     "test_data_stream.py::test_a_run_may_resume_at_any_step"),
    ("lesion share: its complement", "draw.random() < self._data.lesion", "draw.random() > self._data.lesion",
     "test_data_stream.py::test_the_wanted_share_of_examples_holds_lesion"),
    ("windows: one place too early", "max(0, position - length + 1)", "max(0, position - length)",
     "test_data_stream.py::test_a_window_holds_its_place_and_fits"),
    ("clips: one slice too many is valid", "< counts[:, None]", "<= counts[:, None]",
     "test_data_stream.py::test_clips_start_everywhere_and_short_studies_are_padded"),
    ("clips: never the last start", "max(1, slices - length + 1)", "max(1, slices - length)",
     "test_data_stream.py::test_clips_start_everywhere_and_short_studies_are_padded"),
    ("an epoch: clips for slices", "round(slices / training.slices_per_step)",
     "round(examples_per_epoch(cache, studies, data) / training.slices_per_step)",
     "test_data_stream.py::test_an_epoch_counts_examples_or_slices"),
    ("every epoch in one order", "[seed, epoch, _ORDER]", "[seed, _ORDER]",
     "test_data_stream.py::test_seeds_and_epochs_differ"),
    ("in order: cropped at the corner", "corner = (height - self._data.size) // 2, (width - self._data.size) // 2",
     "corner = 0 * height, 0 * width", "test_data_stream.py::test_in_order_every_slice_comes_exactly_once"),
    ("processes: the rows of the first for all", "for row in rows]", "for row in range(len(rows))]",
     "test_data_stream.py::test_processes_share_each_batch_by_rows"),
)  # fmt: skip

PREPARATION = _in(
    "jaxstroke/data/prepare.py",
    ("median and range of the volume", 'if how == "zscore" else [np.s_[index', "if how else [np.s_[index",
     "test_data_prepare.py::test_median_and_iqr_of_each_slice_inside_the_head"),
    ("range: between the tails", "np.percentile(values, (25, 50, 75))", "np.percentile(values, (5, 50, 95))",
     "test_data_prepare.py::test_median_and_iqr_of_each_slice_inside_the_head"),
    ("z-score: variance for deviation", "(values.std() or 1.0)", "(values.var() or 1.0)",
     "test_data_prepare.py::test_zscore_is_of_the_volume_inside_the_head"),
    ("artefacts: clipped late", "CLIP = 8.0", "CLIP = 80.0", "test_data_prepare.py::test_an_artefact_is_clipped"),
    ("a window below which values go on", "/ (high - low), 0, 1)", "/ (high - low), -1, 1)",
     "test_data_prepare.py::test_windows_are_fixed_and_physical"),
    ("masks: any share is lesion", "inverse) >= 0.5)", "inverse) > 0.0)",
     "test_data_prepare.py::test_resampling_moves_nothing"),
    ("distance: inside by one too far", "np.maximum(within - 1, 0)", "within",
     "test_data_prepare.py::test_distance_is_its_definition"),
    ("spacing: the wrong way round", "row * inverse.native[0] / inverse.resampled[0]",
     "row * inverse.resampled[0] / inverse.native[0]", "test_data_prepare.py::test_resampling_moves_nothing"),
    ("the way back: rows' padding for columns", "columns = slice(inverse.pad[1], inverse.pad[1] +",
     "columns = slice(inverse.pad[0], inverse.pad[0] +",
     "test_data_prepare.py::test_nothing_changes_where_nothing_is_resampled"),
    ("shrinking aliases", "_ANTIALIAS_ABOVE = 1.5", "_ANTIALIAS_ABOVE = 150.0",
     "test_data_prepare.py::test_shrinking_averages_and_does_not_alias"),
) + _in(
    "jaxstroke/data/study.py",
    ("left is right", '("S", "P", "L")', '("S", "P", "R")', "test_data_study.py"),
)  # fmt: skip

SPLITS = _in(
    "jaxstroke/data/splits.py",
    ("folds: balanced by patients", "counts[smallest] += studies[patient]", "counts[smallest] += 1",
     "test_data_splits.py::test_a_patient_of_four_studies_weighs_as_much_as_four_of_one"),
    ("validation: half of what is asked", "round(fraction * len(remaining))", "round(fraction * len(remaining) / 2)",
     "test_data_splits.py"),
    ("a fixed test set: by study alone", "if patient in tested and study not in fixed_test", "if False",
     "test_data_splits.py"),
) + _in(
    "jaxstroke/training/cascade.py",
    ("cascade: maps of studies that the network saw", "if patients[study] not in mapped", "if patients[study]",
     "test_cascade_training.py"),
    ("cascade: held-out studies mapped by one network", "own.get(study, signed)", "own.get(study, signed[:1])",
     "test_judged_by_hand.py::test_no_map_of_a_training_study_comes_from_a_network_that_saw_it"),
    ("cascade: a dark lesion taken for a bright one", "-1 if mean < 0 else 1", "-1 if mean > 0 else 1",
     "test_judged_by_hand.py::test_which_way_round_a_map_is_is_asked_once_and_kept"),
)  # fmt: skip

OVERLAP = _in(
    "jaxstroke/metrics/overlap.py",
    ("Dice: nothing rightly found is 0", "/ voxels if voxels else 1.0", "/ voxels if voxels else 0.0",
     "test_metrics_overlap.py"),
    ("recall is precision", "return precision(reference, prediction)", "return precision(prediction, reference)",
     "test_metrics_overlap.py"),
    ("empty slices are 0 under every rule", "np.maximum(voxels, 1), empty)", "np.maximum(voxels, 1), 0.0)",
     "test_metrics_overlap.py"),
    ("a millilitre of 100 mm3", "for edge in spacing_mm) / 1000", "for edge in spacing_mm) / 100",
     "test_metrics_scorecard.py"),
) + _in(
    "jaxstroke/metrics/surface.py",
    ("HD95: the smaller direction", "return max(float(np.percentile(distances, 95))",
     "return min(float(np.percentile(distances, 95))", "test_metrics_surface.py"),
    ("surface distances: axes reversed", "for edge in spacing_mm))", "for edge in spacing_mm[::-1]))",
     "test_metrics_surface.py"),
)  # fmt: skip

LESIONS = _in(
    "jaxstroke/metrics/lesions.py",
    ("lesions: joined by faces alone", "connectivity=26", "connectivity=6", "test_metrics_lesions.py"),
    ("missed lesions: of the predicted ones", "missed=found.reference - touched", "missed=found.predicted - touched",
     "test_metrics_lesions.py"),
    ("matching: the lowest IoU first", "np.argsort(-ratio", "np.argsort(ratio", "test_metrics_conventions.py"),
) + _in(
    "jaxstroke/metrics/rules.py",
    ("ISLES'24: the threshold of before", 'Rules("isles24", 0.2', 'Rules("isles24", 0.5',
     "test_metrics_conventions.py"),
) + _in(
    "jaxstroke/metrics/strata.py",
    ("slabs: what is common counted twice", "sum(dice * both / 2 for", "sum(dice * both for",
     "test_metrics_conventions.py"),
    ("strata: 10 mL is small", "reference_volume_ml < 10", "reference_volume_ml <= 10", "test_metrics_scorecard.py"),
)  # fmt: skip

STATISTICS = _in(
    "jaxstroke/metrics/statistics.py",
    ("kappa: chance without background", "a * b + (voxels - a) * (voxels - b)", "a * b", "test_metrics_statistics.py"),
    ("Holm: the factors reversed", "np.arange(order.size, 0, -1)", "np.arange(1, order.size + 1)",
     "test_metrics_statistics.py"),
    ("limits of agreement: deviation of a population", "differences.std(ddof=1)", "differences.std(ddof=0)",
     "test_metrics_statistics.py"),
) + _in(
    "jaxstroke/metrics/probability.py",
    ("AUC: ties count whole", 'positives, side="right")', 'positives, side="left")', "test_metrics_conventions.py"),
) + _in(
    "jaxstroke/metrics/scorecard.py",
    ("summaries: what is undefined counts 0", "float(row.get(name, math.nan))", "float(row.get(name, 0.0))",
     "test_metrics_scorecard.py"),
)  # fmt: skip

PREDICTION = _in(
    "jaxstroke/inference/predictor.py",
    ("memory lost at each piece", "memory, answer = self._run", "_, answer = self._run",
     "test_in_pieces.py::test_a_long_study_in_pieces_is_the_study_at_once"),
    ("windows: weights not divided out", "self._weight[where] += weights", "self._weight[where] += 1.0",
     "test_in_pieces.py::test_a_long_study_in_pieces_is_the_study_at_once"),
    ("volumes: padding taken for slices", "valid = np.arange(d, d + box[0]) < shape[0]",
     "valid = np.ones(box[0], bool)", "test_volume_padding.py::test_a_study_of_two_slices_is_predicted_as_itself"),
) + _in(
    "jaxstroke/inference/windows.py",
    ("windows: one too few", "// stride) + 1", "// stride) + (length < 2 * window)", "test_windows.py"),
) + _in(
    "jaxstroke/inference/postprocess.py",
    ("the threshold of the experiment unused", "probabilities > rule.threshold", "probabilities > 0.5",
     "test_judged_by_hand.py::test_validation_has_the_values_that_a_hand_finds"),
    ("the last component kept for the largest", "labels == volumes.argmax()", "labels == count",
     "test_metrics_lesions.py"),
) + _in(
    "jaxstroke/inference/evaluation.py",
    ("the first target judged for all", "mask = system.mask(answer.probabilities[..., index],",
     "mask = system.mask(answer.probabilities[..., 0],",
     "test_judged_by_hand.py::test_each_answer_is_judged_against_its_own_annotation"),
    ("summaries: targets mixed", '(row["target"], row["system"]) == (target, system)', 'row["system"] == system',
     "test_judged_by_hand.py::test_each_answer_is_judged_against_its_own_annotation"),
) + _in(
    "jaxstroke/inference/cascade.py",
    ("cascade: the map of the first network alone", "np.mean(maps, axis=0)", "maps[0]",
     "test_judged_by_hand.py::test_no_map_of_a_training_study_comes_from_a_network_that_saw_it"),
    ("cascade: maps as they came", "sign * _standardised(", "_standardised(",
     "test_judged_by_hand.py::test_no_map_of_a_training_study_comes_from_a_network_that_saw_it"),
)  # fmt: skip

TRAINING = _in(
    "jaxstroke/training/step.py",
    ("random changes thrown away", "batch = augment(augment_key, batch, experiment.augment)",
     "augment(augment_key, batch, experiment.augment)", "test_in_pieces.py::test_the_step_trains_on_the_changed_batch"),
    ("the same random numbers in every step", "jax.random.fold_in(jax.random.key(seed), step)", "jax.random.key(seed)",
     "test_in_pieces.py::test_the_step_trains_on_the_changed_batch"),
    ("microbatches: a sum for a mean", "lambda total: total / count", "lambda total: total",
     "test_parallel.py::test_a_batch_in_microbatches_is_the_mean_over_them"),
) + _in(
    "jaxstroke/training/validation.py",
    ("validation loss: a short batch counts as a whole one", 'float(figures["loss"]) * float(figures["count"])',
     'float(figures["loss"]) * float(data.batch)',
     "test_judged_by_hand.py::test_validation_has_the_values_that_a_hand_finds"),
) + _in(
    "jaxstroke/training/loop.py",
    ("best checkpoint: the last of equals", "value > self.best_scores", "value >= self.best_scores",
     "test_judged_by_hand.py::test_the_first_of_equal_scores_stays_the_best"),
    ("patience: an epoch more", "lowest_loss_epoch >= patience", "lowest_loss_epoch > patience",
     "test_training.py::test_patience_ends_a_run"),
) + _in(
    "jaxstroke/training/state.py",
    ("first weights: one seed for all", "jax.random.key(seed))", "jax.random.key(0))",
     "test_in_pieces.py::test_the_step_trains_on_the_changed_batch"),
)  # fmt: skip

_TWIN = "test_torch_parity.py::test_every_variant_answers_as_its_twin"

NETWORKS = _in(
    "jaxstroke/models/mda_net.py",
    ("MDANet: groups added behind the graph", "x = fused[:, 0] - fused[:, 1]", "x = fused[:, 0] + fused[:, 1]",
     "test_mda_net.py::test_equal_groups_leave_nothing_to_see "
     "test_mda_net.py::test_swapping_the_groups_negates_every_difference"),
    ("MDANet: a skip without its difference (eq. 3)", "return difference + attention * difference",
     "return attention * difference", "test_mda_net.py::test_skip_is_equations_2_and_3_by_hand"),
    ("MDANet: a branch of one convolution for two", "(2, third)", "(1 + 1 * (third < 0), third)",
     "test_mda_net.py::test_multi_scale_branches_see_3_5_and_7_pixels"),
    ("MDANet: cross-attention on itself", "zip(tokens, tokens[::-1], strict", "zip(tokens, tokens, strict",
     f"{_TWIN}[mda_net/non_local]"),
) + _in(
    "jaxstroke/models/nn/graph.py",
    ("MDANet: Laplacian with a plus (eq. 7)", "laplacian = graph - jnp", "laplacian = graph + jnp",
     "test_mda_net.py::test_graph_convolution_is_equation_7_written_with_loops"),
) + _in(
    "jaxstroke/models/nn/attention.py",
    ("gates: what should pass is held back", "return Gated(x * attention,", "return Gated(x * (1.0 - attention),",
     "test_cross_domain.py::test_additive_gate_by_hand test_cross_domain.py::test_additive_gate_by_hand"),
    ("transformer: scores of heads not scaled", "scale=(width // self.heads) ** -0.5", "scale=width**-0.5",
     "test_mda_net.py::test_a_transformer_layer_has_the_values_of_its_formula"),
) + _in(
    "jaxstroke/models/nn/memory.py",
    ("memory: long keys preferred", "(2.0 * product - length)", "(2.0 * product)",
     "test_dme_net.py::test_distance_attention_by_hand"),
    ("memory: the newest slice dropped", "[queue[:, 1:], item[:, None]",
     "[item[:, None].astype(queue.dtype), queue[:, :-1]",
     "test_dme_net.py::test_queue_keeps_the_newest_slices_oldest_first"),
    ("memory: update gate turned round", "(1.0 - update) * hidden + update * candidate",
     "update * hidden + (1.0 - update) * candidate", "test_dme_net.py::test_recurrent_unit_by_hand"),
    ("memory: gate between units turned round", "gate * temporal + (1.0 - gate) * spatial",
     "(1.0 - gate) * temporal + gate * spatial", f"{_TWIN}[dme_net]"),
    ("memory: slots pushed away", "state.slots + gate * (content", "state.slots - gate * (content",
     "test_dme_net.py::test_slots_move_a_little_towards_what_resembles_them"),
    ("memory: padding is remembered", "jnp.where(valid.reshape(valid.shape + (1,) * (one.ndim - 1)), one, other)",
     "jnp.where(valid.reshape(valid.shape + (1,) * (one.ndim - 1)), one, one)",
     "test_dme_net.py::test_slots_are_untouched_on_padding"),
) + _in(
    "jaxstroke/models/dme_net.py",
    ("DME-Net: the written mask carries a gradient", "jax.lax.stop_gradient(logits)", "logits",
     "test_dme_net.py::test_what_is_predicted_is_remembered_without_a_gradient"),
    ("DME-Net: streams swapped behind the encoders", "jnp.concatenate([z_t, z_s], axis=-1)",
     "jnp.concatenate([z_s, z_t], axis=-1)", f"{_TWIN}[dme_net]"),
) + _in(
    "jaxstroke/models/cross_domain.py",
    ("cross-domain: each modality decides of itself", 'exchange1_level{level}")(other, one',
     'exchange1_level{level}")(one, one', "test_cross_domain.py::test_each_modality_reaches_both_segmentations"),
    ("cross-domain: gates in V2's decoders", 'self.version != "v2"', 'self.version != "v1"',
     "test_cross_domain.py::test_gates_stand_where_the_version_says"),
) + _in(
    "jaxstroke/models/cascade.py",
    ("cascade: the finest level first", "(*self._coarse_logits(levels), logits)",
     "(logits, *self._coarse_logits(levels))",
     "test_cascade.py::test_six_levels_at_full_size_coarsest_first_and_the_finest_is_the_answer"),
    ("cascade: the map of the attention", "synthetic_map(gate.similarity)", "synthetic_map(gate.attention)",
     f"{_TWIN}[cascade]"),
    ("cascade: the map turned over", "(mean - low) / jnp", "(high - mean) / jnp",
     "test_cascade.py::test_synthetic_map_by_hand"),
) + _in(
    "jaxstroke/models/nn/gated_unet.py",
    ("residual blocks without their residual", "if style.residual else convolved", "if False else convolved",
     "test_cross_domain.py::test_a_residual_block_whose_convolutions_are_zero_gives_back_its_input"),
) + _in(
    "jaxstroke/models/nn/resize.py",
    ("interpolation: half a pixel off", "(size_in / size_out) - 0.5", "(size_in / size_out)",
     "test_cascade.py::test_a_level_is_linear_between_the_pixels_of_its_own_grid"),
    ("pooling: minima", "(second > first) | jnp.isnan", "(second < first) | jnp.isnan", f"{_TWIN}[unet]"),
) + _in(
    "jaxstroke/models/nn/blocks.py",
    ("batch normalisation: slower statistics",
     'the block of U-Net."""\n\n    features: int\n    initializer: str = "torch"\n    momentum: float = 0.9\n',
     'the block of U-Net."""\n\n    features: int\n    initializer: str = "torch"\n    momentum: float = 0.99\n',
     "test_in_pieces.py::test_running_statistics_move_by_a_tenth_in_a_step"),
) + _in(
    "jaxstroke/models/nn/volume.py",
    ("volumes: padding reaches the convolutions", "        x = only(x, valid)\n", "",
     "test_volume_padding.py::test_a_padded_study_is_what_it_is_without_padding"),
)  # fmt: skip

PEERS = _in(
    "jaxstroke/models/unet_plus_plus.py",
    ("U-Net++: the first column from below", "rows[level + 1][column - 1]", "rows[level + 1][0]",
     f"{_TWIN}[unet_plus_plus]"),
) + _in(
    "jaxstroke/models/attention_unet.py",
    ("Attention U-Net: the skip gates the decoder", "gate(x, skip, train=train)", "gate(skip, x, train=train)",
     f"{_TWIN}[attention_unet]"),
) + _in(
    "jaxstroke/models/msnet.py",
    ("MSNet: differences with a sign", "jnp.abs(fine - resize_bilinear(coarse, fine.shape[-3:-1]))",
     "(fine - resize_bilinear(coarse, fine.shape[-3:-1]))", f"{_TWIN}[msnet]"),
) + _in(
    "jaxstroke/models/swin_unet.py",
    ("Swin-Unet: the first block shifted", "number % 2 == 1", "number % 2 == 0", f"{_TWIN}[swin_unet]"),
) + _in(
    "jaxstroke/models/nn/window.py",
    ("windows: columns rolled back as rows", "window, height, width), (shift, shift)",
     "window, height, width), (shift, -shift)", "test_peers.py::test_a_pixel_is_seen_in_its_window_only"),
) + _in(
    "jaxstroke/models/nn/transformer.py",
    ("attention: not scaled", "query * depth**-0.5", "query", "test_peers.py::test_attention_against_loops"),
) + _in(
    "jaxstroke/models/perfu_net.py",
    ("PerfU-Net: attention over rows", "at_least_float32(score), axis=1)", "at_least_float32(score), axis=2)",
     "test_peers.py::test_time_attention_is_a_mean_over_time"),
) + _in(
    "jaxstroke/models/pool_unet.py",
    ("Pool-UNet: padding in the mean", "count_include_pad=False", "count_include_pad=True",
     "test_peers.py::test_pooling_as_token_mixer_leaves_padding_out"),
) + _in(
    "jaxstroke/models/psp_net.py",
    ("PSPNet: the last stage dilated by 2", "DILATIONS = (1, 1, 2, 4)", "DILATIONS = (1, 1, 2, 2)",
     f"{_TWIN}[psp_net]"),
) + _in(
    "jaxstroke/models/nn/recurrent.py",
    ("ConvLSTM: a new memory forgets", "FORGET_BIAS = 1.0", "FORGET_BIAS = 0.0",
     "test_peers.py::test_a_new_conv_lstm_keeps_what_it_has"),
) + _in(
    "jaxstroke/models/threshold_rules.py",
    ("rules: the ill side is taken for the healthy one", "(float(tmax[side].mean()), -float(cbf[side].mean()))",
     "(-float(tmax[side].mean()), -float(cbf[side].mean()))", "test_threshold_rules.py"),
    ("rules: flow is never late", "(tmax > RCBF_DELAY_SECONDS)", "(tmax > 0)", "test_threshold_rules.py"),
)  # fmt: skip

CONSTANTS = _in(
    "experiments/dme_isles18.py",
    ("DME-Net: groups scrambled", '(("CBF", "CBV", "MTT", "Tmax"), ("CT",))',
     '(("CBF", "CBV", "MTT", "CT"), ("Tmax",))', "test_recipes.py"),
    ("DME-Net: halved every 4 epochs", "half_every_epochs=40", "half_every_epochs=4", "test_recipes.py"),
    ("DME-Net: distances in pixels", '"boundary": 1 / SIZE}', '"boundary": 1.0}', "test_recipes.py"),
) + _in(
    "experiments/cascade_stage1.py",
    ("cascade: class weights swapped", '"lesion_weight": 0.7, "background_weight": 0.3',
     '"lesion_weight": 0.3, "background_weight": 0.7', "test_recipes.py"),
    ("cascade: CT normalised as the maps are", 'normalise_of={"CT": "window"},', "normalise_of={},", "test_recipes.py"),
    ("cascade: level weights reversed", "(0.03, 0.045, 0.05, 0.125, 0.25, 0.5)",
     "(0.5, 0.25, 0.125, 0.05, 0.045, 0.03)", "test_recipes.py"),
) + _in(
    "experiments/mdanet_isles18.py",
    ("MDANet: rotation by up to 9 degrees", "rotate_degrees=90.0", "rotate_degrees=9.0", "test_recipes.py"),
    ("MDANet: a variant of another weight", '"similarity_075": {"loss.terms.similarity": 0.75}',
     '"similarity_075": {"loss.terms.similarity": 0.57}', "test_recipes.py"),
) + _in(
    "experiments/crossdomain_v1.py",
    ("cross-domain: a warm-up of 9 epochs", "warmup_epochs=90)", "warmup_epochs=9)", "test_recipes.py"),
) + _in(
    "experiments/crossdomain_v2.py",
    ("cross-domain: V2's literal decoders each from its own",
     '"literal": {"model.literal": True, "model.joint": True}',
     '"literal": {"model.literal": True, "model.joint": False}', "test_recipes.py"),
) + _in(
    "jaxstroke/experiment/fields.py",
    ("a threshold of 0.4 by default", "threshold: Fraction = 0.5", "threshold: Fraction = 0.4", "test_recipes.py"),
    ("random changes in one example of 20 by default", "probability: Fraction = 0.5", "probability: Fraction = 0.05",
     "test_recipes.py"),
) + _in(
    "jaxstroke/papers/mdanet.py",
    ("a published figure's digits swapped", '"56.32 +- 1.87"', '"53.62 +- 1.87"', "test_recipes.py test_tables.py"),
)  # fmt: skip

MUTANTS = (
    *(LOSSES + SCHEDULES + WARP + CHANGES + WINOGRAD + REPLAY + SUMS + ONE_BY_ONE + STREAM + PREPARATION + SPLITS),
    *(OVERLAP + LESIONS + STATISTICS + PREDICTION + TRAINING + NETWORKS + PEERS + CONSTANTS),
)
