/* MIG of the stub's GPUs, which are split as an H100 is. Included by nvml_stub.c.
 *
 * NVML_STUB_MIG names a file that holds the state, and gets each change:
 *   "on GPU"                          MIG is enabled
 *   "flips GPU"                       it will be the other way after the next reset
 *   "gi GPU PROFILE START ID WIDTH"   a GPU instance, and its compute instance with WIDTH slices; 0 for none
 * Without it no GPU can be split. NVML_STUB_MIG_RESET=1: a change of the mode needs a reset.
 */
enum { IN_USE = 19, INSUFFICIENT = 22, RESET_REQUIRED = 16, MOST_PARTS = 8 };

typedef struct { int gpu, profile, start, id, width; } part_t;
typedef struct { unsigned start, size; } placement_t;
typedef struct { device_t device; unsigned id, profile; placement_t placement; } gi_info_t;
typedef struct {
    unsigned processors, copy, decoder, encoder, jpeg, ofa, gi_slices, ci_slices;
    unsigned long long memory;
} attributes_t;
typedef struct {
    unsigned version, id, p2p, slices, count, processors, copy, decoder, encoder, jpeg, ofa;
    unsigned long long memory;
    char name[96];
} gi_profile_t;
typedef struct {
    unsigned version, id, slices, count, processors, copy, decoder, encoder, jpeg, ofa;
    char name[96];
} ci_profile_t;

static const struct {
    int number, id, slices, size, most, processors, memory, decoder, jpeg, ofa, copy;
    const char *name;
} profiles[] = {
    {0, 19, 1, 1, 7, 16, 9984, 1, 1, 0, 1, "1g.10gb"},   {7, 20, 1, 1, 1, 16, 9984, 1, 1, 1, 1, "1g.10gb+me"},
    {9, 15, 1, 2, 4, 26, 20096, 1, 1, 0, 1, "1g.20gb"},  {1, 14, 2, 2, 3, 32, 20096, 2, 2, 0, 2, "2g.20gb"},
    {2, 9, 3, 4, 2, 60, 40448, 3, 3, 0, 3, "3g.40gb"},   {3, 5, 4, 4, 1, 64, 40448, 4, 4, 0, 4, "4g.40gb"},
    {4, 0, 7, 8, 1, 132, 81152, 7, 7, 1, 8, "7g.80gb"},
};
enum { PROFILES = sizeof profiles / sizeof *profiles };

static int mig_on[MOST], mig_flips[MOST];
static part_t parts[MOST * MOST_PARTS];
static int part_count;
static struct device mig_devices[MOST][MOST_PARTS];

static int mig_read(void) {
    const char *path = getenv("NVML_STUB_MIG");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[128];
    int gpu;
    part_t p;
    memset(mig_on, 0, sizeof mig_on);
    memset(mig_flips, 0, sizeof mig_flips);
    part_count = 0;
    if (!file) return path != NULL;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "on %d", &gpu) == 1) mig_on[gpu] = 1;
        if (sscanf(line, "flips %d", &gpu) == 1) mig_flips[gpu] = 1;
        if (sscanf(line, "gi %d %d %d %d %d", &p.gpu, &p.profile, &p.start, &p.id, &p.width) == 5)
            parts[part_count++] = p;
    }
    fclose(file);
    return 1;
}
static void mig_write(void) {
    FILE *file = fopen(getenv("NVML_STUB_MIG"), "w");
    for (int gpu = 0; gpu < MOST; gpu++)
        if (mig_on[gpu]) fprintf(file, "on %d\n", gpu);
    for (part_t *p = parts; p < parts + part_count; p++)
        fprintf(file, "gi %d %d %d %d %d\n", p->gpu, p->profile, p->start, p->id, p->width);
    fclose(file);
}
static int by_id(int id) {
    for (int i = 0; i < PROFILES; i++)
        if (profiles[i].id == id) return i;
    return -1;
}
static part_t *part_of(int gpu, int id) {
    for (part_t *p = parts; p < parts + part_count; p++)
        if (p->gpu == gpu && p->id == id) return p;
    return NULL;
}
/* A MIG device, a GPU instance and a compute instance are all named by GPU and number of the GPU instance. */
static device_t mig_handle(int gpu, int gi) {
    struct device *d = &mig_devices[gpu][0];
    for (int i = 0; i < MOST_PARTS; i++, d++)
        if (!d->used || d->gi == gi) break;
    d->index = gpu;
    d->gi = gi;
    d->used = 1;
    return d;
}
#define MIG_CALL(d) \
    DEVICE_CALL(d); \
    if (!mig_read()) return NOT_SUPPORTED
#define PART_CALL(d) \
    MIG_CALL(d); \
    part_t *part = (d)->used ? part_of((d)->index, (d)->gi) : NULL; \
    if (!part) return INVALID; \
    int at = by_id(part->profile)

static void mig_uuid(device_t d, char *text, unsigned length) {
    snprintf(text, length, "MIG-00000000-0000-0000-0000-%06d%06d", d->index, d->gi);
}
static void mig_name(device_t d, char *text, unsigned length) {
    mig_read();
    part_t *p = part_of(d->index, d->gi);
    int at = p ? by_id(p->profile) : 0;
    if (!p || p->width == profiles[at].slices) snprintf(text, length, "NVIDIA H100 80GB HBM3 MIG %s", profiles[at].name);
    else snprintf(text, length, "NVIDIA H100 80GB HBM3 MIG %dc.%s", p->width, profiles[at].name);
}

int nvmlDeviceGetMigMode(device_t d, unsigned *current, unsigned *pending) {
    MIG_CALL(d);
    if (d->used) return NOT_SUPPORTED;
    *current = mig_on[d->index];
    *pending = mig_on[d->index] != mig_flips[d->index];
    return SUCCESS;
}
int nvmlDeviceSetMigMode(device_t d, unsigned mode, unsigned *status) {
    MIG_CALL(d);
    *status = number("NVML_STUB_MIG_RESET", 0) ? RESET_REQUIRED : SUCCESS;
    if (*status) return SUCCESS;
    for (part_t *p = parts; !mode && p < parts + part_count; p++)
        if (p->gpu == d->index) return IN_USE;
    mig_on[d->index] = mode;
    mig_write();
    return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(device_t d, unsigned *count) {
    MIG_CALL(d);
    *count = 7;
    return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(device_t d, unsigned index, device_t *device) {
    MIG_CALL(d);
    unsigned seen = 0;
    for (part_t *p = parts; p < parts + part_count; p++)
        if (p->gpu == d->index && p->width && seen++ == index) {
            *device = mig_handle(p->gpu, p->id);
            return SUCCESS;
        }
    return NOT_FOUND;
}
int nvmlDeviceGetGpuInstanceId(device_t d, unsigned *id) {
    PART_CALL(d);
    (void)at;
    *id = part->id;
    return SUCCESS;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t d, device_t *gpu) {
    PART_CALL(d);
    (void)at;
    *gpu = &devices[d->index];
    return SUCCESS;
}
int nvmlDeviceGetComputeInstanceId(device_t d, unsigned *id) {
    PART_CALL(d);
    (void)at;
    *id = 0;
    return SUCCESS;
}
int nvmlDeviceGetAttributes_v2(device_t d, attributes_t *has) {
    PART_CALL(d);
    memset(has, 0, sizeof *has);
    has->processors = profiles[at].processors * part->width / profiles[at].slices;
    has->copy = profiles[at].copy;
    has->decoder = profiles[at].decoder;
    has->jpeg = profiles[at].jpeg;
    has->ofa = profiles[at].ofa;
    has->gi_slices = profiles[at].slices;
    has->ci_slices = part->width;
    has->memory = profiles[at].memory;
    return SUCCESS;
}
int nvmlDeviceGetGpuInstanceById(device_t d, unsigned id, device_t *instance) {
    MIG_CALL(d);
    if (!part_of(d->index, id)) return NOT_FOUND;
    *instance = mig_handle(d->index, id);
    return SUCCESS;
}
int nvmlGpuInstanceGetInfo(device_t d, gi_info_t *info) {
    PART_CALL(d);
    *info = (gi_info_t){d, part->id, part->profile, {part->start, profiles[at].size}};
    return SUCCESS;
}
int nvmlDeviceGetGpuInstanceProfileInfoV(device_t d, unsigned profile, gi_profile_t *info) {
    MIG_CALL(d);
    if (!mig_on[d->index]) return NOT_SUPPORTED;
    for (int i = 0; i < PROFILES; i++)
        if (profiles[i].number == (int)profile) {
            unsigned version = info->version;
            memset(info, 0, sizeof *info);
            info->version = version;
            info->id = profiles[i].id;
            info->slices = profiles[i].slices;
            info->count = profiles[i].most;
            info->processors = profiles[i].processors;
            info->copy = profiles[i].copy;
            info->decoder = profiles[i].decoder;
            info->jpeg = profiles[i].jpeg;
            info->ofa = profiles[i].ofa;
            info->memory = profiles[i].memory;
            if (!number("NVML_STUB_MIG_NAMELESS", 0))
                snprintf(info->name, sizeof info->name, "MIG %s", profiles[i].name);
            return SUCCESS;
        }
    return NOT_SUPPORTED;
}
int nvmlDeviceGetGpuInstancePossiblePlacements_v2(device_t d, unsigned id, placement_t *places, unsigned *count) {
    MIG_CALL(d);
    int at = by_id(id), step = at < 0 ? 0 : profiles[at].size, found = 0;
    if (at < 0) return INVALID;
    for (int start = 0; start < 8 && found < (id == 5 ? 1 : id == 14 ? 3 : 8); start += step)
        if (start < 7) places[found++] = (placement_t){start, profiles[at].size};
    *count = found;
    return SUCCESS;
}
int nvmlDeviceGetGpuInstances(device_t d, unsigned id, device_t *instances, unsigned *count) {
    MIG_CALL(d);
    *count = 0;
    for (part_t *p = parts; p < parts + part_count; p++)
        if (p->gpu == d->index && p->profile == (int)id) instances[(*count)++] = mig_handle(p->gpu, p->id);
    return SUCCESS;
}
int nvmlDeviceCreateGpuInstanceWithPlacement(device_t d, unsigned id, placement_t *place, device_t *instance) {
    MIG_CALL(d);
    int at = by_id(id), end = place->start + place->size;
    if (at < 0 || !mig_on[d->index]) return INVALID;
    for (part_t *p = parts; p < parts + part_count; p++)
        if (p->gpu == d->index && p->start < end && (int)place->start < p->start + profiles[by_id(p->profile)].size)
            return INSUFFICIENT;
    parts[part_count++] = (part_t){d->index, id, place->start, 8 / profiles[at].size - 1 + place->start / profiles[at].size, 0};
    mig_write();
    *instance = mig_handle(d->index, parts[part_count - 1].id);
    return SUCCESS;
}
int nvmlGpuInstanceDestroy(device_t d) {
    PART_CALL(d);
    (void)at;
    if (part->width) return IN_USE;
    *part = parts[--part_count];
    d->used = 0;
    mig_write();
    return SUCCESS;
}
int nvmlGpuInstanceGetComputeInstanceProfileInfoV(device_t d, unsigned profile, unsigned engine, ci_profile_t *info) {
    static const int widths[] = {1, 2, 3, 4, 7};
    PART_CALL(d);
    (void)at;
    (void)engine;
    if (profile > 4 || widths[profile] > profiles[at].slices) return NOT_SUPPORTED;
    info->id = profile;
    info->slices = widths[profile];
    return SUCCESS;
}
int nvmlGpuInstanceCreateComputeInstance(device_t d, unsigned id, device_t *compute) {
    static const int widths[] = {1, 2, 3, 4, 7};
    PART_CALL(d);
    (void)at;
    if (part->width) return INSUFFICIENT;
    part->width = widths[id];
    mig_write();
    *compute = d;
    return SUCCESS;
}
int nvmlGpuInstanceGetComputeInstanceById(device_t d, unsigned id, device_t *compute) {
    PART_CALL(d);
    (void)at;
    if (id || !part->width) return NOT_FOUND;
    *compute = d;
    return SUCCESS;
}
int nvmlComputeInstanceDestroy(device_t d) {
    PART_CALL(d);
    (void)at;
    part->width = 0;
    mig_write();
    return SUCCESS;
}
