"""OCI images: values, registries and layouts, layers, builds, and what CUDA they need."""
