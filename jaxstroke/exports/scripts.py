"""The `predict.py` beside an export: a few lines that run it, and apply its rule, and need nothing of this project.

Images come as an .npy file, prepared as experiment.json says and laid out as report.json says; for a network with a
memory they have the slices in front: (slices, B, ...).  The rule is that of rule.json, on the slices of the file.
"""

from __future__ import annotations

from jaxstroke.experiment.kinds import Kind

_FRAME = """\
import json, pathlib, sys, numpy{imports}  # python predict.py {takes} [VOXEL_ML]: needs {needs} alone

here = pathlib.Path(__file__).parent
if len(sys.argv) not in (2, 3):
    sys.exit("usage: python predict.py {takes} [VOXEL_ML], as experiment.json and report.json say")
rule = json.loads((here / "rule.json").read_text())
try:
    voxel_ml = float(sys.argv[2]) if len(sys.argv) == 3 or rule["smallest_lesion_ml"] else None
except (IndexError, ValueError):
    sys.exit(f"error: VOXEL_ML is missing, a voxel's volume: lesions below {{rule['smallest_lesion_ml']}} mL go")
try:
    images = numpy.load(sys.argv[1], allow_pickle=False).astype("float32")
except Exception as error:
    sys.exit(f"error: {{sys.argv[1]}}: it cannot be read as an .npy array ({{error}})")
{load}

def run(images):
{run}

def answer(images):  # the mean over mirrored copies, at the temperature
    axes = [tuple({axes}[axis] for axis in copy) for copy in rule["copies"]]
    mean = sum(numpy.flip(run(numpy.flip(images, axis).copy()), axis) for axis in axes) / numpy.float32(len(axes))
    if rule["temperature"] == 1:
        return mean
    with numpy.errstate(divide="ignore"):
        logits = numpy.log(mean.astype("float64")) - numpy.log1p(-mean.astype("float64"))
    return (1 / (1 + numpy.exp(-numpy.clip(logits, -16, 16) / rule["temperature"]))).astype("float32")

def mask_of(volume):  # (slices, rows, columns), by threshold, smallest lesion, largest lesion alone
    mask = volume > rule["threshold"]
    if not rule["smallest_lesion_ml"] and not rule["largest_component"]:
        return mask
    labels, before = numpy.where(mask, numpy.arange(mask.size, 0, -1).reshape(mask.shape), 0), None
    while before is None or (labels != before).any():  # each lesion takes the highest label within its reach
        before = labels
        for axis in range(3):
            wide = numpy.pad(labels, [(int(axis == one),) * 2 for one in range(3)])
            shifts = [wide.take(range(first, first + mask.shape[axis]), axis) for first in range(3)]
            labels = numpy.maximum.reduce(shifts)
        labels = numpy.where(mask, labels, 0)
    sizes = numpy.bincount(labels.ravel(), minlength=mask.size + 1)
    sizes[0] = 0
    if rule["smallest_lesion_ml"]:
        sizes[sizes * voxel_ml < rule["smallest_lesion_ml"]] = 0
    if rule["largest_component"] and sizes.any():  # of equals the first, which has the highest label
        return labels == len(sizes) - 1 - sizes[::-1].argmax()
    return sizes[labels] > 0

try:
    probabilities = answer(images)
except Exception as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    sys.exit(f"error: {{sys.argv[1]}} has the shape {{images.shape}}, which does not fit; {takes} is expected, "
             f"its size as report.json says ({{reason}})")
volumes = numpy.transpose(probabilities, {order})  # targets in front, slices, rows and columns last
masks = numpy.stack([mask_of(one) for one in volumes.reshape(-1, *volumes.shape[-3:])]).reshape(volumes.shape)
numpy.save("probabilities.npy", probabilities)
numpy.save("mask.npy", numpy.transpose(masks, numpy.argsort({order})).astype("uint8"))
print("probabilities.npy, mask.npy:", "x".join(map(str, probabilities.shape)), "- not a medical device")
"""

# By target: what is imported, what it is called, and how the program is loaded and run on images, without and with a
# memory that goes from slice to slice.
_PARTS = {
    "torch": {
        "imports": ", torch",
        "needs": "PyTorch",
        "load": 'program = torch.export.load(here / "program.pt2").module()',
        "once": "probabilities = program(torch.from_numpy(images)).numpy()",
        "memory": "[torch.from_numpy(array) for array in stored.values()]",
        "slice": "answer, memory = program(torch.from_numpy(image), memory)",
        "answer": "answer.numpy()",
    },
    "onnx": {
        "imports": ", onnxruntime",
        "needs": "onnxruntime",
        "load": 'session = onnxruntime.InferenceSession(here / "model.onnx")',
        "once": 'probabilities = session.run(None, {"images": images})[0]',
        "memory": "dict(stored)",
        "slice": 'answer, *after = session.run(None, {"images": image, **memory}); memory = dict(zip(memory, after))',
        "answer": "answer",
    },
    "stablehlo": {
        "imports": ", jax.export",
        "needs": "JAX",
        "load": 'program = jax.export.deserialize(bytearray((here / "program.stablehlo").read_bytes()))',
        "once": "probabilities = numpy.asarray(program.call(images)[0])",
        "memory": "list(stored.values())",
        "slice": "answer, *memory = program.call(image, *memory)",
        "answer": "numpy.asarray(answer)",
    },
}


def script(target: str, kind: Kind) -> str:
    """`kind` says what one example is."""
    parts, last = _PARTS[target], target == "stablehlo"
    axes = "H, W, C" if last else "C, H, W"
    load, run = parts["load"], [parts["once"], "return probabilities"]
    if kind.in_order:
        load += '\nstored = numpy.load(here / "memory.npz", allow_pickle=False)'
        run = [
            f"memory, answers = {parts['memory']}, []",
            "for image in images:",
            f"    {parts['slice']}",
            f"    answers.append({parts['answer']})",
            "return numpy.stack(answers)",
        ]
    return _FRAME.format(
        imports=parts["imports"],
        takes=f"SLICES.npy (slices, 1, {axes})" if kind.in_order else "IMAGES.npy",
        needs=parts["needs"],
        load=load,
        run="\n".join(f"    {line}" for line in run),
        axes='{"rows": -3, "columns": -2}' if last else '{"rows": -2, "columns": -1}',
        order=_order(kind, channels_last=last),
    )


def _order(kind: Kind, *, channels_last: bool) -> tuple[int, ...]:
    """The axes of the probabilities with slices, rows and columns last."""
    if kind.in_order:  # (slices, B, K, H, W)
        return (1, 4, 0, 2, 3) if channels_last else (1, 2, 0, 3, 4)
    if kind.holds_slices:  # (B, K, D, H, W)
        return (0, 4, 1, 2, 3) if channels_last else (0, 1, 2, 3, 4)
    return (3, 0, 1, 2) if channels_last else (1, 0, 2, 3)  # (B, K, H, W), where B are slices
