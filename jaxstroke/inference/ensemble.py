"""Several networks, and mirrored copies of a study, as one answer: the mean of their probabilities.

Networks of one shape are one compiled program: their weights wait in the host's memory and take turns on the device.
A mirrored copy is the prepared study flipped along an axis that the member's augmentation flips, and what the network
says of it flipped back.  Copies count alike within a member, and members alike, however many copies each has; a
member's temperature is applied in between, and that of the mean, where one was calibrated, at the end.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxstroke.data.prepare import Prepared, prepare, restore
from jaxstroke.data.study import Study
from jaxstroke.errors import UserError
from jaxstroke.experiment import Augment
from jaxstroke.inference.cascade import CascadePredictor
from jaxstroke.inference.members import Member, rule_of
from jaxstroke.inference.predictor import Answer, Predictor
from jaxstroke.inference.unlike import DISAGREEMENT, disagreement, figures_of
from jaxstroke.metrics.temperature import scaled
from jaxstroke.runs.calibration import Calibration

Flips = tuple[int, ...]  # axes of (D, H, W)


def copies(augment: Augment) -> list[Flips]:
    """The axes that each mirrored copy is flipped along: none of them, and every set of those that training flips."""
    on = augment.probability > 0
    axes = [axis for axis, flips in ((1, augment.flip_front_back), (2, augment.flip_left_right)) if flips and on]
    return [flips for count in range(len(axes) + 1) for flips in itertools.combinations(axes, count)]


class Ensemble:
    """`study` answers with the mean over members; of one member without mirrored copies that is its own answer."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        mirrored: bool,
        joint: Calibration | None = None,
        intermediates: Sequence[str] = (),
    ) -> None:
        self._members = members
        self._temperature = joint.temperature if joint else 1.0
        self._copies = [copies(one.experiment.augment) if mirrored else [()] for one in members]
        self._intermediates = tuple(intermediates)
        self._programs = _programs(members)
        if intermediates and len(self._programs) > 1:
            raise UserError("--intermediates: the runs are of different networks, which show different maps; give one")
        self._compiled: dict[int, Predictor | CascadePredictor] = {}
        self._at: dict[int, int] = {}  # by program: the member whose weights it has
        self._seconds: list[float] = []
        self._threshold = (joint.rule if joint else rule_of(members)).threshold

    @property
    def passes(self) -> int:
        """How often a network goes through a study."""
        return sum(len(flips) for flips in self._copies)

    def cost(self) -> str:
        """What an answer takes, in words."""
        members = f"{len(self._members)} runs" if len(self._members) > 1 else "1 run"
        mirrored = self.passes - len(self._members)
        words = f"{members}, {mirrored} mirrored copies: " if mirrored else f"{members}: "
        words += f"{self.passes} network pass{'es' if self.passes > 1 else ''} a study"
        return words + (f", {self.study_s():.2g} s each study (median)" if self._seconds else "")

    def study_s(self) -> float:
        """Seconds an answer took, the median; the first study also compiles and does not count beside others."""
        timed = self._seconds[1:] or self._seconds
        return statistics.median(timed) if timed else math.nan

    def study(self, study: Study) -> Answer:
        """Answers on the study's own grid."""
        begun = time.perf_counter()
        prepared: dict[int, Prepared] = {}
        doubt = _Doubt(self._threshold) if self.passes > 1 else None
        members = []
        for number, member in enumerate(self._members):
            program = self._programs[number]
            if program not in prepared:
                prepared[program] = prepare(study, member.experiment.data)
            passes = self._passes(number, prepared[program])
            mean = _mean(passes if doubt is None else self._seen(number, passes, doubt))
            members.append(_scaled(mean, _temperature(member)))
        answer = _scaled(_mean(members), self._temperature)
        data = self._members[0].experiment.data
        figures = figures_of(study, prepared[0], data) if self._members[0].calibration else {}
        if doubt is not None:
            votes = doubt.votes()
            figures[DISAGREEMENT] = disagreement(votes)
            answer = dataclasses.replace(answer, spread=doubt.spread(), votes=votes)
        self._seconds.append(time.perf_counter() - begun)
        return dataclasses.replace(answer, figures=figures)

    def _seen(self, number: int, passes: Iterator[Answer], doubt: _Doubt) -> Iterator[Answer]:
        """The same passes, of which each was counted, at its member's temperature and that of the mean."""
        share = 1 / (len(self._members) * len(self._copies[number]))
        for answer in passes:
            own = _scaled(_scaled(answer, _temperature(self._members[number])), self._temperature)
            doubt.add(own.probabilities, share)
            yield answer

    def _passes(self, number: int, prepared: Prepared) -> Iterator[Answer]:
        """A member's answer to each mirrored copy, on the study's own grid."""
        predictor = self._with_weights(number)
        for flips in self._copies[number]:
            answer = predictor.prepared(np.ascontiguousarray(np.flip(prepared.images, flips)))
            yield _of_each(answer, lambda values, flips=flips: restore(np.flip(values, flips), prepared.inverse))

    def _with_weights(self, number: int) -> Predictor | CascadePredictor:
        program = self._programs[number]
        if self._at.get(program) != number:
            weights = jax.device_put(self._members[number].weights)
            if program not in self._compiled:
                self._compiled[program] = self._compile(self._members[number], weights)
            self._compiled[program].replace_weights(weights)
            self._at[program] = number
        return self._compiled[program]

    def _compile(self, member: Member, weights: Any) -> Predictor | CascadePredictor:
        if member.experiment.cascade.stage1_networks:
            return CascadePredictor(member.run, weights, intermediates=self._intermediates)
        return Predictor(member.experiment, weights, intermediates=self._intermediates)


class _Doubt:
    """Spread and votes of passes that come one by one, each with its share; the shares sum to 1."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sums: list[np.ndarray] = []  # of probabilities, of their squares, of votes

    def add(self, probabilities: np.ndarray, share: float) -> None:
        parts = (probabilities, probabilities**2, probabilities > self._threshold)
        if not self._sums:
            self._sums = [np.zeros(probabilities.shape, np.float32) for _ in parts]
        for total, part in zip(self._sums, parts, strict=True):
            total += np.float32(share) * part

    def spread(self) -> np.ndarray:
        mean, square, _ = self._sums
        return np.sqrt(np.maximum(square - mean**2, 0))

    def votes(self) -> np.ndarray:
        return np.minimum(self._sums[2], 1)


def _programs(members: Sequence[Member]) -> list[int]:
    """For each member the first that has the same compiled program."""
    return [next(n for n, other in enumerate(members) if one.same_program(other)) for one in members]


def _of_each(answer: Answer, change: Callable[[np.ndarray], np.ndarray]) -> Answer:
    """The answer with its probabilities and each of its maps changed, all as (D, H, W, channels)."""
    maps = {path: change(values[..., None])[..., 0] for path, values in answer.maps.items()}
    return Answer(change(answer.probabilities), maps)


def _temperature(member: Member) -> float:
    return member.calibration.temperature if member.calibration else 1.0


def _scaled(answer: Answer, temperature: float) -> Answer:
    return dataclasses.replace(answer, probabilities=scaled(answer.probabilities, temperature))


def _mean(answers: Sequence[Answer] | Iterator[Answer]) -> Answer:
    """One at a time, so that no more than the sum and the next are held."""
    total, count = None, 0
    for answer in answers:
        count += 1
        total = answer if total is None else _sum(total, answer)
    assert total is not None
    return total if count == 1 else _of_each(total, lambda values: values / count)


def _sum(one: Answer, other: Answer) -> Answer:
    maps = {path: values + other.maps[path] for path, values in one.maps.items()}
    return dataclasses.replace(one, probabilities=one.probabilities + other.probabilities, maps=maps)
