"""Stands in for an interpreter with TensorRT where there is none: the worker's protocol, and ONNX Runtime.

Its plan is the ONNX file that TensorRT would be given. ``--on REQUEST=WHAT`` makes a request go wrong.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from speakerquant.engine.tensorrt import worker

sys.path.insert(0, str(Path(worker.__file__).parent))

from protocol import Message, WorkerError, serve

parser = argparse.ArgumentParser()
parser.add_argument("--on", action="append", default=[])
parser.add_argument("--version", default="8.5.3.1")
arguments, _ = parser.parse_known_args()
troubles = dict(trouble.split("=") for trouble in arguments.on)
sessions: list[ort.InferenceSession] = []


def trouble(request: str) -> None:
    what = troubles.get(request)
    if what == "crash":
        print("the driver has gone", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(600)
    if what == "fail":
        raise WorkerError("the engine could not be built: Error Code 2: OutOfMemory")
    if what == "exception":
        raise KeyError("surprise")
    if what == "chatter":
        os.write(1, b"a library says something\n")
        print("and something more", flush=True)


def describe(payload: bytes) -> Message:
    trouble("describe")
    gpu = {"GPU": "stand-in", "compute capability": "8.6"}
    if "tensorrt_rtx" in sys.argv:
        return {"version": arguments.version, "gpu": gpu, "compute_capabilities": ["7.5", "8.6", "8.9"]}, b""
    return {"environment": {"TensorRT": arguments.version, **gpu}}, b""


def build(payload: bytes, onnx: str, int8: bool, frames: list[int], **settings: Any) -> Message:
    trouble("int8" if int8 else "fp32")
    trouble("build")
    network = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    n_mels = network.get_inputs()[0].shape[1]
    for length in frames[:2]:  # the network must take what its profile is made of
        network.run(None, {"features": np.zeros((1, n_mels, length), np.float32)})
    return {}, Path(onnx).read_bytes()


def load(payload: bytes) -> Message:
    trouble("load")
    try:
        sessions.append(ort.InferenceSession(payload, providers=["CPUExecutionProvider"]))
    except Exception as error:
        raise WorkerError(f"the engine could not be loaded: {error}") from None
    return {}, b""


def embed(payload: bytes, shape: list[int]) -> Message:
    trouble("embed")
    if shape[0] != 1:
        raise WorkerError("the engine could not be run: its profile is for one recording")
    features = np.frombuffer(payload, np.float32).reshape(shape)
    embeddings = sessions[-1].run(None, {"features": features})[0]
    return {"shape": list(embeddings.shape)}, embeddings.tobytes()


serve(lambda: {"describe": describe, "build": build, "load": load, "embed": embed})
