"""What this machine's processor can do."""

import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_INT8_AND_VECTORS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_cpu() -> str:
    """Name and vector instructions, such as ``Intel(R) Xeon(R) Processor (avx2, avx512_vnni)``.

    The instructions are known on Linux only.
    """
    cpuinfo = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    flags = (values.get("flags") or values.get("Features") or "").split()
    name = values.get("model name") or platform.processor() or platform.machine()
    features = ", ".join(feature for feature in _INT8_AND_VECTORS if feature in flags)
    return f"{name} ({features or 'vector instructions unknown'})"
