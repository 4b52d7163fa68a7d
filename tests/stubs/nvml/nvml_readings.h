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
    union { double d; unsigned u; int s; unsigned long long ull; } value;
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
        fields[i].outcome = SUCCESS;
        fields[i].value.ull = 0;
        switch (fields[i].id) {
        case 82: /* NVML_FI_DEV_MEMORY_TEMP */
            fields[i].type = 1;
            fields[i].value.u = 70 + d->index;
            break;
        case 138: case 139: /* NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, of all links; RX */
            fields[i].type = 3;
            fields[i].outcome = fields[i].scope == ~0u ? SUCCESS : NOT_SUPPORTED;
            fields[i].value.ull = number("NVML_STUB_LINK_KIB", 0);
            break;
        case 193: case 194: /* NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT, SLOWDOWN */
            fields[i].type = 5;
            fields[i].outcome = getenv("NVML_STUB_MARGIN") ? SUCCESS : NOT_SUPPORTED;
            fields[i].value.s = fields[i].id == 193 ? -8 : -2;
            break;
        default:
            fields[i].outcome = NOT_SUPPORTED;
        }
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

typedef struct { unsigned version; int margin; } margin_t;
int nvmlDeviceGetMarginTemperature(device_t d, margin_t *found) {
    DEVICE_CALL(d);
    if (!getenv("NVML_STUB_MARGIN")) return NOT_SUPPORTED;
    found->margin = number("NVML_STUB_MARGIN", 0) - d->index;
    return SUCCESS;
}

typedef struct { unsigned code, state; char info[128], product[128]; unsigned enabled; unsigned expiry[4]; } license_t;
typedef struct { int supported; unsigned count; license_t features[3]; } licenses_t;
int nvmlDeviceGetGridLicensableFeatures_v4(device_t d, licenses_t *found) {
    DEVICE_CALL(d);
    memset(found, 0, sizeof *found);
    found->supported = found->count = number("NVML_STUB_LICENSES", 0);
    if (found->count) found->features[found->count - 1].state = 1;
    return SUCCESS;
}

/* GPM. A sample is how many were taken of the GPU, or of the part. */
typedef struct { int taken, who; } sample_t;
typedef struct { unsigned id; int outcome; double value; const char *text[3]; } gpm_metric_t;
typedef struct { unsigned version, count; sample_t *one, *other; gpm_metric_t metrics[]; } gpm_t;
static int samples, samples_taken;
int stub_samples(void) { return samples; }
int nvmlGpmQueryDeviceSupport(device_t d, unsigned *support) {
    DEVICE_CALL(d);
    if (support[0] != 1) return VERSION_MISMATCH;
    support[1] = !number("NVML_STUB_WITHOUT_GPM", 0);
    return SUCCESS;
}
int nvmlGpmSampleAlloc(sample_t **sample) {
    CALL();
    *sample = calloc(1, sizeof **sample);
    samples++;
    return SUCCESS;
}
int nvmlGpmSampleFree(sample_t *sample) {
    CALL();
    free(sample);
    samples--;
    return SUCCESS;
}
int nvmlGpmSampleGet(device_t d, sample_t *sample) {
    DEVICE_CALL(d);
    if (d->used) return INVALID;
    *sample = (sample_t){++samples_taken, d->index};
    return SUCCESS;
}
int nvmlGpmMigSampleGet(device_t d, unsigned instance, sample_t *sample) {
    DEVICE_CALL(d);
    if (d->used || !mig_read() || !part_of(d->index, instance)) return INVALID;
    *sample = (sample_t){++samples_taken, 10 * instance};
    return SUCCESS;
}
int nvmlGpmMetricsGet(gpm_t *asked) {
    CALL();
    if (asked->version != 1) return VERSION_MISMATCH;
    if (asked->one->taken >= asked->other->taken) return INVALID;
    for (gpm_metric_t *metric = asked->metrics; metric < asked->metrics + asked->count; metric++) {
        metric->outcome = metric->id == 3 ? number("NVML_STUB_GPM_OUTCOME", SUCCESS) : SUCCESS;
        metric->value = metric->id + asked->other->who;
        if (metric->id == 10) metric->value /= number("NVML_STUB_GPM_PASSED", 1); /* 0: nothing was counted */
        if (metric->id == 5) metric->value = 100.4;
    }
    return SUCCESS;
}
#endif
