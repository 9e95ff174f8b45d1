"""The GPU, asked through NVIDIA's driver, which is there whatever version of CUDA is."""

from __future__ import annotations

import ctypes

from protocol import WorkerError

_DRIVER = "libcuda.so.1"
_NO_GPU = (
    "there is no GPU here: {}; engine=tensorrt_rtx builds without one, "
    "engine=openvino and engine=onnxruntime run without one"
)
_NAME_BYTES = 256
# CUdevice_attribute of CUDA's driver API
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76


class NoGpuError(WorkerError):
    """There is no GPU, for the reason that the message gives."""


def describe_gpu() -> dict[str, str]:
    """Name and compute capability of the GPU that TensorRT uses: the first visible one.

    Raises:
        NoGpuError: there is none.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        reason = f"NVIDIA's driver ({_DRIVER}) is not installed"
        raise NoGpuError(_NO_GPU.format(reason)) from None
    count, device, number = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        raise NoGpuError(_NO_GPU.format(f"NVIDIA's driver finds none (CUDA error {status})"))
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    capability = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(str(number.value))
    return {"GPU": name.value.decode(), "compute capability": ".".join(capability)}
