/* A small libnvidia-ml.so.1 for tests: the calls that gpuyard makes, on make-believe H100s.
 *
 * Environment, read at each call:
 *   NVML_STUB_GPUS           how many GPUs (4)
 *   NVML_STUB_INIT           what nvmlInitWithFlags returns (0)
 *   NVML_STUB_NVSWITCH       1: every NVLink leads to a switch; else GPUs 2n and 2n+1 are joined by four
 *   NVML_STUB_NOT_SUPPORTED  comma-separated functions that return NVML_ERROR_NOT_SUPPORTED
 *   NVML_STUB_LOST           a file with the indices of GPUs that are lost, one a line
 *   NVML_STUB_EVENTS         a file with "INDEX TYPE DATA" a line; each line is one event, in order
 *   NVML_STUB_RESET          index of a GPU with a pending row remapping, which a reset would mend
 *   NVML_STUB_FAULTS         a file with "FUNCTION CODE" a line: what the function returns; with the code -1 it
 *                            doesn't return while the line is there, and an asterisk stands for any function
 *   NVML_STUB_CALLS          a file that gets a line "FUNCTION CODE" for each fault that was met
 *   NVML_STUB_PROFILE        "NAME;MEMORY_MIB;MAJOR.MINOR;LINKS;CUDA;DRIVER" of the GPUs, instead of an H100's
 *   NVML_STUB_PROCESSES      a file with "INDEX KIND PID MIB INSTANCE" a line: what has a GPU open; KIND is
 *                            compute, graphics or mps
 *   NVML_STUB_MIG            see nvml_stub_mig.h
 *   NVML_STUB_SERIAL         a number in the UUIDs of this machine's GPUs (0)
 *   NVML_STUB_TEMPERATURE    of the first GPU in °C (60), each other has one degree more
 *   NVML_STUB_MARGIN         of the first GPU to its limit in °C, each other has one less; none without it
 *   NVML_STUB_LINK_KIB       what the NVLinks of each GPU have sent, and received, KiB (0)
 *   NVML_STUB_LICENSES       how many licensed features each GPU has (0)
 *   NVML_STUB_WITHOUT_GPM    1: the GPUs are older than Hopper
 *   NVML_STUB_GPM_OUTCOME    of its third metric;  NVML_STUB_GPM_PASSED=0: no memory cycle was counted
 *   NVML_STUB_INSTANCE       the gpuInstanceId of events (0xFFFFFFFF)
 * Compiled with -DOLD_DRIVER it lacks every function that a driver of 2018 lacks.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, LOST = 15, HANGS = -1 };
enum { MOST = 16, REMOTE_GPU = 0, REMOTE_SWITCH = 2 };

/* used: a part of the GPU, whose number is gi. */
typedef struct device { int index, gi, used; } *device_t;
/* registered: one bit for each GPU. */
typedef struct { int consumed; unsigned registered; } *event_set_t;

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} pci_t;

typedef struct { unsigned long long total, free, used; } memory_t;

typedef struct {
    device_t device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} event_t;

static struct device devices[MOST];

static int number(const char *name, int fallback) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : fallback;
}

static int gpus(void) { return number("NVML_STUB_GPUS", 4); }

static int unsupported(const char *function) {
    const char *list = getenv("NVML_STUB_NOT_SUPPORTED");
    size_t length = strlen(function);
    for (const char *at = list; at && (at = strstr(at, function)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return 1;
    return 0;
}

static int fault_of(const char *function) {
    const char *path = getenv("NVML_STUB_FAULTS");
    FILE *file = path ? fopen(path, "r") : NULL;
    char name[128];
    int found = SUCCESS, code;
    if (!file) return SUCCESS;
    while (!found && fscanf(file, "%127s %d", name, &code) == 2)
        if (!strcmp(name, function) || !strcmp(name, "*")) found = code;
    fclose(file);
    return found;
}

static int fault(const char *function) {
    const struct timespec step = {0, 5000000};
    int code = fault_of(function);
    const char *path = code ? getenv("NVML_STUB_CALLS") : NULL;
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%s %d\n", function, code);
        fclose(file);
    }
    while (code == HANGS) {
        nanosleep(&step, NULL);
        code = fault_of(function);
    }
    return code;
}

/* Every function that a driver can fail starts with this. */
#define CALL() \
    int fault_code = fault(__func__); \
    if (fault_code) return fault_code

/* The fields of NVML_STUB_PROFILE, or of an H100. */
static const char *profile(int field, char *text, size_t length) {
    const char *at = getenv("NVML_STUB_PROFILE");
    if (!at) at = "NVIDIA H100 80GB HBM3;81559;9.0;4;12040;550.107.02";
    for (; field; field--) at = strchr(at, ';') + 1;
    snprintf(text, length, "%.*s", (int)strcspn(at, ";"), at);
    return text;
}

static int lost(int index) {
    const char *path = getenv("NVML_STUB_LOST");
    FILE *file = path ? fopen(path, "r") : NULL;
    int found = 0, one;
    if (!file) return 0;
    while (fscanf(file, "%d", &one) == 1) found |= one == index;
    fclose(file);
    return found;
}

/* Each getter of a device starts with this. */
#define DEVICE_CALL(d) \
    CALL(); \
    if (unsupported(__func__)) return NOT_SUPPORTED; \
    if (!(d)) return INVALID; \
    if (lost((d)->index)) return LOST

#ifdef OLD_DRIVER
static void mig_uuid(device_t d, char *text, unsigned length) {}
static void mig_name(device_t d, char *text, unsigned length) {}
#else
#include "nvml_stub_mig.h"
#endif

int nvmlInitWithFlags(unsigned flags) {
    CALL();
    for (int i = 0; i < MOST; i++) devices[i].index = i;
    return number("NVML_STUB_INIT", SUCCESS);
}
int nvmlShutdown(void) {
    CALL();
    return SUCCESS;
}
const char *nvmlErrorString(int code) { return "an error of the stub"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    CALL();
    if (unsupported(__func__)) return NOT_SUPPORTED;
    profile(5, text, length);
    return SUCCESS;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    CALL();
    *count = gpus();
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
    CALL();
    if ((int)index >= gpus()) return INVALID;
    *device = &devices[index];
    return lost(index) ? LOST : SUCCESS;
}
int nvmlDeviceGetUUID(device_t d, char *text, unsigned length) {
    DEVICE_CALL(d);
    if (d->used) mig_uuid(d, text, length);
    else snprintf(text, length, "GPU-%08x-0000-0000-0000-%012d", number("NVML_STUB_SERIAL", 0), d->index);
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *device) {
    CALL();
    int index = atoi(strrchr(uuid, '-') + 1);
#ifndef OLD_DRIVER
    int gi;
    if (sscanf(uuid, "MIG-00000000-0000-0000-0000-%6d%6d", &index, &gi) == 2) {
        if (!mig_read() || !part_of(index, gi)) return NOT_FOUND;
        *device = mig_handle(index, gi);
        return lost(index) ? LOST : SUCCESS;
    }
#endif
    if (index >= gpus()) return NOT_FOUND;
    *device = &devices[index];
    return lost(index) ? LOST : SUCCESS;
}
int nvmlDeviceGetName(device_t d, char *text, unsigned length) {
    DEVICE_CALL(d);
    const char *name = getenv("NVML_STUB_NAME");
    if (d->used) mig_name(d, text, length);
    else if (name) snprintf(text, length, "%s", name);
    else profile(0, text, length);
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(device_t d, memory_t *memory) {
    DEVICE_CALL(d);
    char mib[16];
    memory->total = strtoull(profile(1, mib, sizeof mib), NULL, 10) << 20;
    memory->used = 0;
    memory->free = memory->total;
    return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(device_t d, pci_t *pci) {
    DEVICE_CALL(d);
    memset(pci, 0, sizeof *pci);
    pci->bus = 0x3a + d->index;
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
    return SUCCESS;
}
int nvmlDeviceGetMinorNumber(device_t d, unsigned *minor) {
    DEVICE_CALL(d);
    *minor = d->index;
    return SUCCESS;
}
int nvmlDeviceGetTopologyCommonAncestor(device_t one, device_t other, unsigned *level) {
    DEVICE_CALL(one);
    *level = one->index / 4 == other->index / 4 ? 30 : 50;
    return SUCCESS;
}
int nvmlDeviceGetNvLinkState(device_t d, unsigned link, unsigned *active) {
    DEVICE_CALL(d);
    char links[8];
    unsigned there = atoi(profile(3, links, sizeof links));
    if (!there) return NOT_SUPPORTED;
    if (link > there) return INVALID;
    *active = link < there; /* One more link is there, and down. */
    return SUCCESS;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(device_t d, unsigned link, pci_t *pci) {
    DEVICE_CALL(d);
    memset(pci, 0, sizeof *pci);
    if (number("NVML_STUB_NVSWITCH", 0))
        snprintf(pci->busId, sizeof pci->busId, "00000000:C%d:00.0", link);
    else
        snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", 0x3a + (d->index ^ 1));
    return SUCCESS;
}

#include "nvml_readings.h"

#ifndef OLD_DRIVER
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    CALL();
    if (unsupported(__func__)) return NOT_SUPPORTED;
    char cuda[8];
    *version = atoi(profile(4, cuda, sizeof cuda));
    return SUCCESS;
}
int nvmlDeviceGetCudaComputeCapability(device_t d, int *major, int *minor) {
    DEVICE_CALL(d);
    char capability[8];
    sscanf(profile(2, capability, sizeof capability), "%d.%d", major, minor);
    return SUCCESS;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(device_t d, unsigned link, unsigned *type) {
    DEVICE_CALL(d);
    *type = number("NVML_STUB_NVSWITCH", 0) ? REMOTE_SWITCH : REMOTE_GPU;
    return SUCCESS;
}
int nvmlDeviceGetRetiredPagesPendingStatus(device_t d, unsigned *pending) {
    DEVICE_CALL(d);
    return NOT_SUPPORTED;
}
int nvmlDeviceGetRemappedRows(device_t d, unsigned *corr, unsigned *unc, unsigned *pending, unsigned *failed) {
    DEVICE_CALL(d);
    *corr = *unc = *failed = 0;
    *pending = number("NVML_STUB_RESET", -1) == d->index;
    return SUCCESS;
}
int nvmlDeviceGetSupportedEventTypes(device_t d, unsigned long long *types) {
    DEVICE_CALL(d);
    *types = 0x8 | 0x2 | 0x1;
    return SUCCESS;
}
int nvmlEventSetCreate(event_set_t *set) {
    CALL();
    if (unsupported(__func__)) return NOT_SUPPORTED;
    *set = calloc(1, sizeof **set);
    return SUCCESS;
}
int nvmlEventSetFree(event_set_t set) {
    CALL();
    free(set);
    return SUCCESS;
}
int nvmlDeviceRegisterEvents(device_t d, unsigned long long types, event_set_t set) {
    DEVICE_CALL(d);
    set->registered |= 1u << d->index;
    return SUCCESS;
}

static int next_event(event_set_t set, event_t *event) {
    const char *path = getenv("NVML_STUB_EVENTS");
    FILE *file = path ? fopen(path, "r") : NULL;
    int index, found = 0;
    if (!file) return 0;
    for (int line = 0; fscanf(file, "%d %llu %llu", &index, &event->type, &event->data) == 3; line++)
        if (line == set->consumed) {
            event->device = &devices[index];
            event->gpu_instance = event->compute_instance = number("NVML_STUB_INSTANCE", -1);
            set->consumed++;
            found = 1;
            break;
        }
    fclose(file);
    return found;
}
int nvmlEventSetWait_v2(event_set_t set, event_t *event, unsigned timeout_ms) {
    CALL();
    const struct timespec step = {0, 5000000};
    for (int i = 0; i < MOST; i++)
        if (set->registered >> i & 1 && lost(i)) return LOST;
    for (unsigned waited = 0; waited < timeout_ms; waited += 5) {
        if (next_event(set, event)) return SUCCESS;
        nanosleep(&step, NULL);
    }
    return TIMEOUT;
}
#endif
