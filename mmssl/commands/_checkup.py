"""What `mmssl doctor` looks at: versions, processor, devices, decoders, folders; and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ONNX = ("onnx", "onnxscript", "onnxruntime")
PACKAGES = (
    "mmssl", "torch", "torchvision", "torchaudio", "transformers", "safetensors", "av", "torchcodec", "decord",
    "opencv-python-headless", "numpy", "pyarrow", "pydantic", "tensorboard", "wandb", "huggingface-hub", *ONNX,
)  # fmt: skip
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16")
GIB = 1024**3
MIN_FREE_DISK = 5 * GIB  # a demo run with its toy world takes about 1; checkpoints of a real model take more
MIN_SHARED_MEMORY = GIB  # loader workers hand batches over through it; containers often give 64 MiB


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that is missing or in the way, what it costs, and the command that mends it."""

    what: str
    effect: str
    remedy: str


@dataclass(slots=True)
class Checkup:
    """Everything found, as plain values that go into JSON as they are."""

    versions: dict[str, str | None]
    machine: dict[str, Any]
    devices: list[dict[str, Any]]
    codecs: list[dict[str, str]]
    backends: dict[str, dict[str, Any]]
    folders: dict[str, dict[str, Any]]
    advice: list[Advice] = field(default_factory=list)


def check_up() -> Checkup:
    """Look at everything; a few seconds, most of them importing torch."""
    from dataclasses import asdict

    from mmssl.data.codecs import try_codecs

    found = Checkup(
        versions=_versions(),
        machine=_machine(),
        devices=_devices(),
        codecs=[asdict(trial) for trial in try_codecs()],
        backends={name: _try_backend(name) for name in ("pyav", "torchcodec", "decord")},
        folders=_folders(),
    )
    found.advice = _advice(found)
    return found


def _versions() -> dict[str, str | None]:
    import torch

    from mmssl.data.codecs import ffmpeg_version

    versions: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    versions["ffmpeg"] = ffmpeg_version()
    versions["cuda"] = str(torch.version.cuda) if torch.version.cuda else None
    return versions


def _machine() -> dict[str, Any]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model, flags = _processor()
    return {
        "processor": model,
        "cores": cores,
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": _memory(),
        "shared_memory_bytes": shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
    }


def _processor() -> tuple[str, set[str]]:
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return platform.processor() or platform.machine(), set()
    model, flags = platform.machine(), set[str]()
    for line in listing.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip().lower() in ("flags", "features"):
            flags = set(value.split())
    return model, flags


def _memory() -> int | None:
    # What the machine has, or what a container may use where that is less.
    sizes = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and limit.read_text().strip().isdigit():
        sizes.append(int(limit.read_text()))
    return min(sizes) if sizes else None


def _devices() -> list[dict[str, Any]]:
    import torch

    found: list[dict[str, Any]] = []
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found.append(
            {
                "name": facts.name,
                "memory_bytes": facts.total_memory,
                "capability": f"{facts.major}.{facts.minor}",
                "bfloat16": facts.major >= 8,
            }
        )
    return found


def _try_backend(name: str) -> dict[str, Any]:
    """Decode one second of picture and sound with a backend and compare it with PyAV's answer."""
    import torch

    from mmssl.data.codecs import write_clip
    from mmssl.data.decode import answer
    from mmssl.types import Frames, InputError, MediaError, Source, Span, Wave

    frames, wave = Frames((0.0, 0.5, 0.9), 32), Wave(0.25, 0.5, 16_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.mp4"
        write_clip(path)
        source = Source("trial", path, fps=25.0, width=64, height=64, video=Span(0.0, 1.0), audio=Span(0.0, 1.0))
        try:
            got = answer(source, [frames, wave], backend=name)  # pyright: ignore[reportArgumentType]  # a name from our own list
            wanted = answer(source, [frames, wave])
        except (InputError, MediaError, ImportError, OSError, RuntimeError) as error:
            return {"works": False, "detail": str(error).strip().splitlines()[0]}
    error = (got[frames].float() - wanted[frames].float()).abs().mean().item()
    alike = torch.nn.functional.cosine_similarity(got[wave], wanted[wave], dim=0).item()
    if error > 3 or alike < 0.95:
        return {"works": False, "detail": f"decodes differently: picture by {error:.1f} of 255, sound alike {alike:.3f}"}
    return {"works": True, "detail": "default" if name == "pyav" else ""}


def _folders() -> dict[str, dict[str, Any]]:
    from mmssl.data.cache import cache_folder

    cache = cache_folder()
    size = sum(p.stat().st_size for p in cache.rglob("*") if p.is_file() and not p.is_symlink()) if cache.is_dir() else 0
    return {
        "cache": {"path": str(cache), "size_bytes": size, "free_bytes": _free(cache)},
        "here": {"path": str(Path.cwd()), "free_bytes": _free(Path.cwd())},
    }


def _free(folder: Path) -> int:
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return shutil.disk_usage(there).free


def _advice(found: Checkup) -> list[Advice]:
    return [*_about_decoders(found), *_about_devices(found), *_about_room(found), *_about_export(found)]


def _about_decoders(found: Checkup) -> list[Advice]:
    advice: list[Advice] = []
    bad = [c["name"] for c in found.codecs if c["outcome"] in ("fails", "absent")]
    if bad:
        advice.append(
            Advice(
                f"no decoding of {', '.join(bad)}", "such files are rejected", "pip install --force-reinstall --only-binary av av"
            )
        )
    if not found.backends["pyav"]["works"]:
        remedy = "pip install --force-reinstall --only-binary av av"
        advice.append(Advice(f"PyAV does not decode: {found.backends['pyav']['detail']}", "nothing can be trained", remedy))
    if not found.backends["torchcodec"]["works"]:
        system = {"linux": "apt-get install ffmpeg", "darwin": "brew install ffmpeg"}.get(
            sys.platform, "install FFmpeg's shared libraries"
        )
        package = "uv sync --extra torchcodec, then " if found.versions["torchcodec"] is None else ""
        advice.append(Advice("backend torchcodec (optional)", "`backend: torchcodec` cannot be chosen", f"{package}{system}"))
    if not found.backends["decord"]["works"]:
        on_wheels = sys.platform == "linux" and platform.machine() == "x86_64"
        remedy = "pip install --force-reinstall decord" if on_wheels else "none: decord has wheels for Linux on x86-64 only"
        advice.append(Advice("backend decord (optional)", "`backend: decord` cannot be chosen", remedy))
    return advice


def _about_devices(found: Checkup) -> list[Advice]:
    advice: list[Advice] = []
    if not found.devices:
        if shutil.which("nvidia-smi"):
            remedy = "compare `nvidia-smi` with the CUDA version above; a newer driver, or a torch built for an older CUDA"
            advice.append(Advice("an NVIDIA driver is here, but torch sees no GPU", "training runs on the CPU", remedy))
        elif not {"amx_bf16", "avx512_bf16", "bf16"} & set(found.machine["flags"]):
            effect = "bfloat16 is emulated on this processor, and slow"
            advice.append(Advice("no GPU, and no bfloat16 in the processor", effect, "mmssl train CONFIG train.dtype=float32"))
    elif not all(device["bfloat16"] for device in found.devices):
        advice.append(
            Advice("a GPU without bfloat16", "bfloat16 is emulated there, and slow", "mmssl train CONFIG train.dtype=float32")
        )
    return advice


def _about_room(found: Checkup) -> list[Advice]:
    advice: list[Advice] = []
    shared = found.machine["shared_memory_bytes"]
    if shared is not None and shared < MIN_SHARED_MEMORY:
        effect = "loader workers may die with a bus error"
        advice.append(
            Advice(f"only {shared / GIB:.2f} GiB of /dev/shm", effect, "docker run --shm-size=8g ..., or train.workers=0")
        )
    for name, folder in found.folders.items():
        if folder["free_bytes"] < MIN_FREE_DISK:
            remedy = (
                "free some, or set MMSSL_CACHE to a folder on another disk" if name == "cache" else "free some, or work elsewhere"
            )
            left = f"{folder['free_bytes'] / GIB:.1f} GiB free at {folder['path']}"
            advice.append(Advice(left, "a full disk stops indexing and checkpoints", remedy))
    return advice


def _about_export(found: Checkup) -> list[Advice]:
    missing = [name for name in ONNX if found.versions[name] is None]
    if not missing:
        return []
    effect = "`mmssl export --format onnx` cannot be chosen"
    return [Advice(f"{', '.join(missing)} (optional)", effect, "uv sync --extra onnx")]
