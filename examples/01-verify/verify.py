"""Says which device PyTorch really computes on, and computes something there."""

import os

import torch


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"Using device: {device.type}")
    # PyTorch calls AMD's GPUs cuda, too.
    print(f"PyTorch {torch.__version__}" + (f" (ROCm {torch.version.hip})" if torch.version.hip else ""))
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES", "")
    allotted = [gpu for gpu in names.split(",") if gpu]
    simulated = os.environ.get("GPUYARD_SIMULATED") == "1"
    print(f"GPUs allotted: {len(allotted)}{' (simulated)' if simulated else ''}")
    if device.type == "cuda":
        print(f"GPU 0 is a {torch.cuda.get_device_name(0)}")
    elif simulated:
        print("Simulated GPUs compute nothing, so this runs on the CPU.")
    elif allotted:
        print("Warning: this PyTorch can't use the allotted GPUs; is it built for CUDA, or for ROCm?")

    matrix = torch.arange(6, dtype=torch.float32, device=device).reshape(2, 3)
    print(f"Computed on {matrix.device.type}: {(matrix @ matrix.T).tolist()}")


if __name__ == "__main__":
    main()
