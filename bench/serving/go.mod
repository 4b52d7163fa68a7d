module gpuyard/bench/serving

go 1.19
