module gpuyard/bench/load

go 1.19
