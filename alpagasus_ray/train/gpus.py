"""GPUs by name: what a data sheet promises, and what an hour is assumed to cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.recipe import TrainSettings

GPUS_AS_OF = "2025-06"
"""The month of the prices in GPUS."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    bf16_tflops: float
    """Dense bfloat16 of the tensor cores at its peak, in 10^12 operations per second. Sheets that state it
    with sparsity state twice as much."""
    fp32_tflops: float
    """Plain float32 at its peak: training in fp32 does not round its products to TF32."""
    memory_gib: float
    """What torch finds there (torch.cuda.mem_get_info), a little less than the sheet's."""
    usd_per_hour: float
    """Assumed: a GPU's share of an AWS instance on demand in us-east-1. Other clouds ask a half to a third of
    it, reservations too."""

    def peak_flops(self, settings: TrainSettings) -> float:
        """Return the peak in operations per second at a training's precision."""
        return 1e12 * (self.bf16_tflops if settings.precision == "bf16" else self.fp32_tflops)


# NVIDIA's data sheets of each (the SXM form of B200, H200, H100 and A100).
GPUS: dict[str, Gpu] = {
    "b200": Gpu(2250, 75, 178.3, 14.24),
    "h200": Gpu(989, 67, 139.8, 7.91),
    "h100": Gpu(989, 67, 79.1, 6.88),
    "a100-80": Gpu(312, 19.5, 79.1, 3.43),
    "a100-40": Gpu(312, 19.5, 39.4, 2.74),
    "l40s": Gpu(362, 91.6, 44.4, 1.86),
    "l4": Gpu(121, 30.3, 22.0, 0.80),
}
"""By the name that `--gpu` takes."""


TORCH_NAMES = {
    "NVIDIA B200": "b200",
    "NVIDIA H200": "h200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA A100-SXM4-80GB": "a100-80",
    "NVIDIA A100 80GB PCIe": "a100-80",
    "NVIDIA A100-SXM4-40GB": "a100-40",
    "NVIDIA A100-PCIE-40GB": "a100-40",
    "NVIDIA L40S": "l40s",
    "NVIDIA L4": "l4",
}
"""Names in GPUS by what torch.cuda.get_device_name says, whole: a PCIe card, or a slice of one (MIG), with a
lower peak has another name, and is not in the table. The A100's two forms have one peak."""


def gpu_of_torch_name(name: str) -> Gpu | None:
    """Return the GPU that torch knows by this name; None for one whose peak is not in the table."""
    return GPUS[TORCH_NAMES[name]] if name in TORCH_NAMES else None


def gpu_named(name: str) -> Gpu:
    """Return a GPU by name; raises UserError that says which are known."""
    if name not in GPUS:
        raise UserError(f"--gpu {name}: no such GPU in the table.{nearest(name, GPUS)}")
    return GPUS[name]
