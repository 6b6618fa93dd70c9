"""The twin as an ONNX model, made from its exported PyTorch program, run by onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch.export import ExportedProgram

from jaxstroke.exports import torch_program
from jaxstroke.exports.check import Runner
from jaxstroke.exports.trained import Arrays, Trained

OPSET = 20


def write(path: Path, program: ExportedProgram, trained: Trained) -> None:
    memory = trained.memory_names()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own, about its own parts
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        model = torch.onnx.export(
            program,
            input_names=["images", *memory],
            output_names=["probabilities", *(f"next_{name}" for name in memory)],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
    assert model is not None
    model.save(path, external_data=False)


def load(path: Path, trained: Trained) -> Runner:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and told in one line
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(inputs: Arrays) -> Arrays:
        given = [tensor.numpy() for tensor in torch_program.tensors(trained, inputs)]
        outputs = session.run(None, dict(zip(names, given, strict=True)))
        return torch_program.from_tensors(trained, [torch.from_numpy(array) for array in outputs])

    return run
