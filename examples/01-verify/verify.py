"""Says which device PyTorch really computes on, and computes something there."""

import os

import torch


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"Using device: {device.type}")
    print(f"PyTorch {torch.__version__}")
    allotted = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    simulated = os.environ.get("GPUYARD_SIMULATED") == "1"
    print(f"GPUs allotted: {len(allotted)}{' (simulated)' if simulated else ''}")
    if device.type == "cuda":
        print(f"GPU 0 is a {torch.cuda.get_device_name(0)}")
    elif simulated:
        print("Simulated GPUs compute nothing, so this runs on the CPU.")
    elif allotted:
        print("Warning: this PyTorch can't use the allotted GPUs; is it built for CUDA?")

    matrix = torch.arange(6, dtype=torch.float32, device=device).reshape(2, 3)
    print(f"Computed on {matrix.device.type}: {(matrix @ matrix.T).tolist()}")


if __name__ == "__main__":
    main()
