/* What the stub measures on its GPUs: a part of nvml_stub.c. */
enum { INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25 };

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned gpu, memory; } utilisation_t;

static int processes(device_t d, const char *kind, unsigned *count, process_t *found) {
    const char *path = getenv("NVML_STUB_PROCESSES");
    FILE *file = path ? fopen(path, "r") : NULL;
    unsigned index, pid, there = 0, room = *count;
    int mib, instance;
    char named[16];
    while (file && fscanf(file, "%u %15s %u %d %d", &index, named, &pid, &mib, &instance) == 5)
        if ((int)index == d->index && !strcmp(named, kind)) {
            if (found && there < room)
                found[there] = (process_t){pid, mib < 0 ? ~0ULL : (unsigned long long)mib << 20, instance, -1};
            there++;
        }
    if (file) fclose(file);
    *count = there;
    return there <= room ? SUCCESS : INSUFFICIENT_SIZE;
}
int nvmlDeviceGetComputeRunningProcesses_v2(device_t d, unsigned *count, process_t *found) {
    DEVICE_CALL(d);
    return processes(d, "compute", count, found);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(device_t d, unsigned *count, process_t *found) {
    DEVICE_CALL(d);
    return processes(d, "graphics", count, found);
}
int nvmlDeviceGetUtilizationRates(device_t d, utilisation_t *busy) {
    DEVICE_CALL(d);
    *busy = (utilisation_t){90 + d->index, 40 + d->index};
    return SUCCESS;
}
int nvmlDeviceGetTemperature(device_t d, int sensor, unsigned *celsius) {
    DEVICE_CALL(d);
    *celsius = number("NVML_STUB_TEMPERATURE", 60) + d->index;
    return SUCCESS;
}
int nvmlDeviceGetTemperatureThreshold(device_t d, int threshold, unsigned *celsius) {
    DEVICE_CALL(d);
    *celsius = 87;
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(device_t d, unsigned *milliwatts) {
    DEVICE_CALL(d);
    *milliwatts = 512345 + d->index;
    return SUCCESS;
}
int nvmlDeviceGetClockInfo(device_t d, int clock, unsigned *mhz) {
    DEVICE_CALL(d);
    *mhz = clock == 1 ? 1980 : 2619;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t d, unsigned long long *reasons) {
    DEVICE_CALL(d);
    *reasons = 0x1 | 0x4;
    return SUCCESS;
}
int nvmlDeviceGetPcieReplayCounter(device_t d, unsigned *count) {
    DEVICE_CALL(d);
    *count = 7;
    return SUCCESS;
}

#ifndef OLD_DRIVER
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct {
    unsigned id, scope;
    long long timestamp, latency_us;
    unsigned type;
    int outcome;
    union { double d; unsigned u; unsigned long long ull; } value;
} field_t;

int nvmlDeviceGetMemoryInfo_v2(device_t d, memory_v2_t *memory) {
    DEVICE_CALL(d);
    char mib[16];
    if (memory->version != (2u << 24 | sizeof *memory)) return VERSION_MISMATCH;
    memory->total = strtoull(profile(1, mib, sizeof mib), NULL, 10) << 20;
    memory->reserved = 500ULL << 20;
    memory->used = 1000ULL << 20;
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}
int nvmlDeviceGetFieldValues(device_t d, int count, field_t *fields) {
    DEVICE_CALL(d);
    for (int i = 0; i < count; i++) {
        fields[i].outcome = fields[i].id == 82 ? SUCCESS : NOT_SUPPORTED; /* NVML_FI_DEV_MEMORY_TEMP */
        fields[i].value.u = 70 + d->index;
    }
    return SUCCESS;
}
int nvmlDeviceGetTotalEnergyConsumption(device_t d, unsigned long long *millijoules) {
    DEVICE_CALL(d);
    *millijoules = 123456789;
    return SUCCESS;
}
int nvmlDeviceGetEncoderUtilization(device_t d, unsigned *percent, unsigned *period_us) {
    DEVICE_CALL(d);
    *percent = 11;
    return SUCCESS;
}
int nvmlDeviceGetDecoderUtilization(device_t d, unsigned *percent, unsigned *period_us) {
    DEVICE_CALL(d);
    *percent = 12;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksEventReasons(device_t d, unsigned long long *reasons) {
    DEVICE_CALL(d);
    *reasons = 0x1 | 0x4 | 0x40;
    return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device_t d, unsigned *count, process_t *found) {
    DEVICE_CALL(d);
    return processes(d, "compute", count, found);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t d, unsigned *count, process_t *found) {
    DEVICE_CALL(d);
    return processes(d, "graphics", count, found);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(device_t d, unsigned *count, process_t *found) {
    DEVICE_CALL(d);
    return processes(d, "mps", count, found);
}
#endif
