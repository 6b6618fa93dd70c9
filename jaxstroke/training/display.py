"""What a person sees while a run trains: a bar, TensorBoard events, a picture of the curves."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxstroke import console

if TYPE_CHECKING:
    from jaxstroke.training.events import Events
    from jaxstroke.training.weights_and_biases import WeightsAndBiases


class Report:
    """One bar over all steps; enter it, then the loop tells it what happens. `events` None: nothing is written.

    `also` gets every figure that is written as an event.
    """

    def __init__(self, events: Path | None, *, phantom: bool, also: WeightsAndBiases | None = None) -> None:
        self._events = events
        self.phantom = phantom
        self._stack = contextlib.ExitStack()
        self._advance: Any = None
        self._writers: list[Events | WeightsAndBiases] = [also] if also else []
        self._at = 0
        self._parts: dict[str, str] = {}

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        for writer in self._writers:
            writer.close()

    def begin(self, first_step: int, last_step: int, steps_per_epoch: int) -> None:
        if self._events is not None:
            from jaxstroke.training.events import Events

            self._writers.append(Events(self._events, purge_step=first_step + 1 if first_step else None))
        title = "training on phantoms" if self.phantom else "training"
        self._advance = self._stack.enter_context(console.bar(title, last_step, "steps"))
        self._at = first_step
        self._parts["epoch"] = f"{steps_per_epoch} steps an epoch; compiling the step, this takes a while"
        self._advance(first_step, note=self._note())

    def stepped(self, step: int, loss: float, rate: float, images_per_second: float) -> None:
        self._parts.pop("epoch", None)
        self._parts |= {
            "speed": f"{images_per_second:.0f} slices/s",
            "loss": f"loss {loss:.3f}",
            "rate": f"lr {rate:.1e}",
        }
        self._advance(step - self._at, note=self._note())
        self._at = step
        figures = {"loss": loss, "learning_rate": rate, "slices_per_second": images_per_second}
        self._record("train", figures, step)

    def validated(self, row: dict[str, Any], *, best: bool) -> None:
        if math.isnan(row["dice"]):
            return
        hd95 = "-" if math.isnan(row["hd95_mm"]) else f"{row['hd95_mm']:.1f} mm"
        self._parts["dice"] = f"validation Dice {row['dice']:.3f}{' (best)' if best else ''} HD95 {hd95}"
        self.note("")
        self._record("validation", {name: row[name] for name in ("validation_loss", "dice", "hd95_mm")}, row["step"])

    def _record(self, group: str, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            for writer in self._writers if math.isfinite(value) else ():
                writer.add_scalar(f"{group}/{name}", value, step)

    def note(self, text: str) -> None:
        self._parts["doing"] = text
        self._advance(0, note=self._note())

    def _note(self) -> str:
        return "  ".join(part for part in self._parts.values() if part)
