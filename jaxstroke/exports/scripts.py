"""The `predict.py` beside an export: a few lines that run it and need nothing of this project.

Images come as an .npy file, prepared as experiment.json says and laid out as report.json says; for a network with a
memory they have the slices in front: (slices, B, ...).
"""

from __future__ import annotations

_FRAME = """\
import pathlib, sys, numpy{imports}  # python predict.py {takes}: needs {needs} alone

here = pathlib.Path(__file__).parent
if len(sys.argv) != 2:
    sys.exit("usage: python predict.py {takes}, prepared as experiment.json and laid out as report.json says")
try:
    images = numpy.load(sys.argv[1], allow_pickle=False).astype("float32")
except Exception as error:
    sys.exit(f"error: {{sys.argv[1]}}: it cannot be read as an .npy array ({{error}})")
{load}
try:
{run}
except Exception as error:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    sys.exit(f"error: {{sys.argv[1]}} has the shape {{images.shape}}, which does not fit; {takes} is expected, "
             f"its size as report.json says ({{reason}})")
numpy.save("probabilities.npy", probabilities)
print("probabilities.npy:", "x".join(map(str, probabilities.shape)), "- not a medical device")
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


def script(target: str, *, streams: bool) -> str:
    parts = _PARTS[target]
    axes = "H, W, C" if target == "stablehlo" else "C, H, W"
    load, lines = parts["load"], [parts["once"]]
    if streams:
        load += f'\nstored = numpy.load(here / "memory.npz", allow_pickle=False)\nmemory = {parts["memory"]}'
        lines = [
            "answers = []",
            "for image in images:",
            f"    {parts['slice']}",
            f"    answers.append({parts['answer']})",
            "probabilities = numpy.stack(answers)",
        ]
    return _FRAME.format(
        imports=parts["imports"],
        takes=f"SLICES.npy (slices, 1, {axes})" if streams else "IMAGES.npy",
        needs=parts["needs"],
        load=load,
        run="\n".join(f"    {line}" for line in lines),
    )
