"""The `predict.py` beside an export: a few lines that run it and need nothing of this project.

Images come as an .npy file, prepared as experiment.json says and laid out as report.json says; for a network with a
memory they have the slices in front: (slices, B, ...).
"""

from __future__ import annotations

_TORCH = """\
import sys, numpy, torch  # python predict.py IMAGES.npy: needs PyTorch alone

program = torch.export.load("program.pt2").module()
images = torch.from_numpy(numpy.load(sys.argv[1], allow_pickle=False))
numpy.save("probabilities.npy", program(images).numpy())
"""

_TORCH_STREAM = """\
import sys, numpy, torch  # python predict.py SLICES.npy (slices, 1, C, H, W): needs PyTorch alone

program = torch.export.load("program.pt2").module()
memory = [torch.from_numpy(array) for array in numpy.load("memory.npz", allow_pickle=False).values()]
answers = []
for images in torch.from_numpy(numpy.load(sys.argv[1], allow_pickle=False)):
    probabilities, memory = program(images, memory)
    answers.append(probabilities.numpy())
numpy.save("probabilities.npy", numpy.stack(answers))
"""

_ONNX = """\
import sys, numpy, onnxruntime  # python predict.py IMAGES.npy: needs onnxruntime alone

session = onnxruntime.InferenceSession("model.onnx")
images = numpy.load(sys.argv[1], allow_pickle=False)
numpy.save("probabilities.npy", session.run(None, {"images": images})[0])
"""

_ONNX_STREAM = """\
import sys, numpy, onnxruntime  # python predict.py SLICES.npy (slices, 1, C, H, W): needs onnxruntime alone

session = onnxruntime.InferenceSession("model.onnx")
memory = dict(numpy.load("memory.npz", allow_pickle=False))
answers = []
for images in numpy.load(sys.argv[1], allow_pickle=False):
    probabilities, *after = session.run(None, {"images": images, **memory})
    memory = dict(zip(memory, after))
    answers.append(probabilities)
numpy.save("probabilities.npy", numpy.stack(answers))
"""

_STABLEHLO = """\
import pathlib, sys, jax.export, numpy  # python predict.py IMAGES.npy: needs JAX alone

program = jax.export.deserialize(bytearray(pathlib.Path("program.stablehlo").read_bytes()))
images = numpy.load(sys.argv[1], allow_pickle=False)
numpy.save("probabilities.npy", program.call(images)[0])
"""

_STABLEHLO_STREAM = """\
import pathlib, sys, jax.export, numpy  # python predict.py SLICES.npy (slices, 1, H, W, C): needs JAX alone

program = jax.export.deserialize(bytearray(pathlib.Path("program.stablehlo").read_bytes()))
memory = list(numpy.load("memory.npz", allow_pickle=False).values())
answers = []
for images in numpy.load(sys.argv[1], allow_pickle=False):
    probabilities, *memory = program.call(images, *memory)
    answers.append(numpy.asarray(probabilities))
numpy.save("probabilities.npy", numpy.stack(answers))
"""

_SCRIPTS = {
    ("torch", False): _TORCH,
    ("torch", True): _TORCH_STREAM,
    ("onnx", False): _ONNX,
    ("onnx", True): _ONNX_STREAM,
    ("stablehlo", False): _STABLEHLO,
    ("stablehlo", True): _STABLEHLO_STREAM,
}


def script(target: str, *, streams: bool) -> str:
    return _SCRIPTS[target, streams]
