/* A driver that misbehaves on request, for tests of the real pynvml. Orders are read at every call, so that one process
 * can see many faults.
 *
 * FAKE_NVML          comma separated FUNCTION=CODE; CODE is an NVML return code, `hang` (30 s), `wait:MS` (answers after MS
 *                    milliseconds) or `lost:N` (code 15 after N calls of that function). `*` is every device function.
 * FAKE_NVML_PROFILE  `24gb` (one card), `8x80` (NVLink over switches), `bridge` (two cards, four direct links), `mig`
 *                    (one GPU in three slots, the second empty), `mig_empty`, `vgpu`, `wsl`, `unified`, `carved`, `desktop`.
 * FAKE_NVML_GPUS     number of GPUs where the profile does not fix it, 1 when not set.
 * FAKE_NVML_ABSURD   set: every number is impossible, every text acts on a terminal; `bytes`: texts are not UTF-8.
 * FAKE_NVML_BAD      comma separated signs of trouble: ecc, remap, narrow, hot.
 *
 * Compiled with -DOLD_DRIVER it lacks functions that old drivers lack.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB (1ULL << 30)
#define MIB (1ULL << 20)

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int pid; unsigned long long bytes; unsigned int gi, ci; } process_t;
typedef struct { char legacy[16]; unsigned int domain, bus, device, id, subsystem; char address[32]; } pci_t;

static int calls = 0;

static int verdict(const char *name, int device_function) {
    const char *faults = getenv("FAKE_NVML");
    char copy[8192], *rest = NULL;
    if (!faults) return 0;
    strncpy(copy, faults, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    for (char *entry = strtok_r(copy, ",", &rest); entry; entry = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(entry, '=');
        if (!equals) continue;
        *equals = 0;
        if (strcmp(entry, name) && !(device_function && !strcmp(entry, "*"))) continue;
        const char *code = equals + 1;
        if (!strcmp(code, "hang")) { sleep(30); return 10; }
        if (!strncmp(code, "wait:", 5)) { usleep(1000 * (unsigned int)atoi(code + 5)); return 0; }
        if (!strncmp(code, "lost:", 5)) return ++calls > atoi(code + 5) ? 15 : 0;
        return atoi(code);
    }
    return 0;
}

static int listed(const char *variable, const char *word) {
    const char *value = getenv(variable);
    return value && strstr(value, word) != NULL;
}
static int absurd(void) { return getenv("FAKE_NVML_ABSURD") != NULL; }
static int bad(const char *word) { return listed("FAKE_NVML_BAD", word); }
static int profile(const char *name) {
    const char *value = getenv("FAKE_NVML_PROFILE");
    return value && !strcmp(value, name);
}
static int split(void) { return profile("mig") || profile("mig_empty"); }
static int foreign(void) { return profile("vgpu") || profile("wsl") || profile("unified") || profile("carved"); }

/* Handles: 1.. are GPUs, 101.. are MIG instances of the first one. */
static size_t number_of(void *device) { return (size_t)device; }
static int is_instance(void *device) { return number_of(device) > 100; }

#define SYSTEM(name) { int code = verdict(name, 0); if (code) return code; }
#define DEVICE(name) { int code = verdict(name, 1); if (code) return code; }
#define WHOLE(name) { DEVICE(name) if (is_instance(device)) return 3; }

static const char *text_of(const char *usual) {
    if (listed("FAKE_NVML_ABSURD", "bytes")) return "\xff\xfe\xc3(";
    return absurd() ? "\033[2J\033]52;c;AA\a" : usual;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; SYSTEM("nvmlInit") return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "\xff\xfe"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) {
    SYSTEM("nvmlSystemGetDriverVersion")
    snprintf(text, size, "%s", absurd() ? "" : "590.12.01");
    return 0;
}
int nvmlSystemGetCudaDriverVersion(int *version) {
    SYSTEM("nvmlSystemGetCudaDriverVersion")
    *version = absurd() ? -1 : 13010;
    return 0;
}
int nvmlDeviceGetCount_v2(unsigned int *count) {
    SYSTEM("nvmlDeviceGetCount")
    const char *gpus = getenv("FAKE_NVML_GPUS");
    *count = profile("8x80") ? 8 : profile("bridge") ? 2 : gpus ? (unsigned int)strtoul(gpus, NULL, 10) : 1;
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    DEVICE("nvmlDeviceGetHandleByIndex")
    *device = (void *)(size_t)(index + 1);
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned int size) {
    DEVICE("nvmlDeviceGetName")
    if (absurd()) { snprintf(text, size, "%s", text_of("")); return 0; }
    if (is_instance(device)) { snprintf(text, size, "NVIDIA A100-SXM4-80GB MIG 3g.40gb"); return 0; }
    if (split()) snprintf(text, size, "NVIDIA A100-SXM4-80GB");
    else if (profile("24gb") || profile("desktop")) snprintf(text, size, "NVIDIA GeForce RTX 4090");
    else if (profile("8x80")) snprintf(text, size, "NVIDIA H100 80GB HBM3");
    else if (profile("vgpu")) snprintf(text, size, "GRID A100D-20C");
    else if (profile("unified") || profile("carved")) snprintf(text, size, "NVIDIA GB10");
    else snprintf(text, size, "Fake H%zu", number_of(device) * 100);
    return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned int size) {
    DEVICE("nvmlDeviceGetUUID")
    if (listed("FAKE_NVML_ABSURD", "bytes")) snprintf(text, size, "\xff\xfe");
    else if (is_instance(device)) snprintf(text, size, "MIG-%08zu-bbbb", number_of(device) - 101);
    else snprintf(text, size, "GPU-%08zu-aaaa", number_of(device) - 1);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    WHOLE("nvmlDeviceGetCudaComputeCapability")
    *major = absurd() ? -7 : split() || profile("vgpu") ? 8 : profile("24gb") || profile("desktop") ? 8 : 9;
    *minor = profile("24gb") || profile("desktop") ? 9 : 0;
    if (profile("unified") || profile("carved")) { *major = 12; *minor = 1; }
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    DEVICE("nvmlDeviceGetMemoryInfo")
    if (absurd()) { memory->total = ~0ULL; memory->used = 1ULL << 63; memory->free = ~0ULL; return 0; }
    if (profile("unified")) return 3;
    memory->total = 24 * GIB;
    memory->used = 4 * GIB;
    if (profile("carved")) { memory->total = 512 * MIB; memory->used = 0; }
    if (profile("24gb") || profile("desktop")) memory->total = 24564 * MIB;
    if (profile("8x80")) memory->total = 81559 * MIB;
    if (profile("vgpu")) memory->total = 20 * GIB;
    if (split()) memory->total = 81920 * MIB;
    if (is_instance(device)) { memory->total = 40192 * MIB; memory->used = 37 * MIB; }
    memory->free = memory->total - memory->used;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    WHOLE("nvmlDeviceGetUtilizationRates")
    if (split() || profile("wsl")) return 3;
    rates->gpu = absurd() ? 4000000000U : 37;
    rates->memory = 12;
    return 0;
}
int nvmlDeviceGetTemperature(void *device, unsigned int sensor, unsigned int *celsius) {
    (void)sensor;
    WHOLE("nvmlDeviceGetTemperature")
    if (profile("vgpu")) return 3;
    *celsius = absurd() ? 4294967295U : bad("hot") ? 94 : 61;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    WHOLE("nvmlDeviceGetPowerUsage")
    if (profile("vgpu")) return 3;
    *milliwatts = absurd() ? 4294967295U : 250500;
    return 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned int *milliwatts) {
    WHOLE("nvmlDeviceGetEnforcedPowerLimit")
    if (foreign()) return 3;
    *milliwatts = absurd() ? 4294967295U : 700000;
    return 0;
}
int nvmlDeviceGetClockInfo(void *device, unsigned int kind, unsigned int *mhz) {
    WHOLE("nvmlDeviceGetClockInfo")
    *mhz = absurd() ? 4294967295U : kind == 2 ? 2619 : 1410;
    return 0;
}
int nvmlDeviceGetMaxClockInfo(void *device, unsigned int kind, unsigned int *mhz) {
    WHOLE("nvmlDeviceGetMaxClockInfo")
    *mhz = absurd() ? 4294967295U : kind == 2 ? 2619 : 1980;
    return 0;
}
static int reasons(unsigned long long *mask) {
    *mask = absurd() ? ~0ULL : bad("hot") ? 0x60 : 0x4;
    return 0;
}
#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *mask) {
    WHOLE("nvmlDeviceGetCurrentClocksEventReasons")
    return reasons(mask);
}
#endif
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *mask) {
    WHOLE("nvmlDeviceGetCurrentClocksThrottleReasons")
    return reasons(mask);
}
int nvmlDeviceGetPersistenceMode(void *device, unsigned int *mode) {
    WHOLE("nvmlDeviceGetPersistenceMode")
    *mode = absurd() ? 77 : !profile("24gb");
    return 0;
}
int nvmlDeviceGetEccMode(void *device, unsigned int *current, unsigned int *pending) {
    WHOLE("nvmlDeviceGetEccMode")
    if (foreign()) return 3;
    *current = *pending = absurd() ? 77 : !profile("24gb");
    return 0;
}
int nvmlDeviceGetTotalEccErrors(void *device, unsigned int kind, unsigned int counter, unsigned long long *count) {
    (void)counter;
    WHOLE("nvmlDeviceGetTotalEccErrors")
    if (foreign()) return 3;
    *count = absurd() ? ~0ULL : bad("ecc") ? (kind ? 2 : 117) : 0;
    return 0;
}
#ifndef OLD_DRIVER
int nvmlDeviceGetRemappedRows(void *device, unsigned int *good, unsigned int *lost, unsigned int *pending,
                              unsigned int *failed) {
    WHOLE("nvmlDeviceGetRemappedRows")
    if (foreign()) return 3;
    *good = *lost = 0;
    *pending = absurd() ? 77 : bad("remap");
    *failed = absurd() ? 77 : bad("remap");
    return 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending) {
    WHOLE("nvmlDeviceGetMigMode")
    if (absurd()) { *current = *pending = 77; return 0; }
    if (!split() && !profile("8x80")) return 3;
    *current = *pending = split();
    return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count) {
    WHOLE("nvmlDeviceGetMaxMigDeviceCount")
    *count = absurd() ? 4294967295U : 3;
    return 0;
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **instance) {
    WHOLE("nvmlDeviceGetMigDeviceHandleByIndex")
    if (profile("mig_empty") || index == 1) return 6;
    *instance = (void *)(size_t)(101 + index);
    return 0;
}
int nvmlDeviceGetBrand(void *device, unsigned int *brand) {
    WHOLE("nvmlDeviceGetBrand")
    *brand = absurd() ? 4000000000U : profile("vgpu") ? 9 : profile("24gb") ? 5 : 14;
    return 0;
}
int nvmlDeviceGetVirtualizationMode(void *device, unsigned int *mode) {
    WHOLE("nvmlDeviceGetVirtualizationMode")
    *mode = absurd() ? 4000000000U : profile("vgpu") ? 2 : 0;
    return 0;
}
int nvmlDeviceGetDisplayActive(void *device, unsigned int *active) {
    WHOLE("nvmlDeviceGetDisplayActive")
    *active = absurd() ? 77 : profile("desktop");
    return 0;
}
#endif
static void address_of(pci_t *info, unsigned int bus) {
    memset(info, 0, sizeof *info);
    snprintf(info->address, sizeof info->address, "%s", absurd() ? text_of("") : "");
    if (!absurd()) snprintf(info->address, sizeof info->address, "00000000:%02X:00.0", bus);
}
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *info) {
    WHOLE("nvmlDeviceGetPciInfo")
    address_of(info, 0x10 + (unsigned int)number_of(device));
    return 0;
}
static int link_number(unsigned int *value, unsigned int usual) { *value = absurd() ? 4294967295U : usual; return 0; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned int *value) {
    WHOLE("nvmlDeviceGetCurrPcieLinkGeneration")
    return link_number(value, 4);
}
int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned int *value) {
    WHOLE("nvmlDeviceGetMaxPcieLinkGeneration")
    return link_number(value, 4);
}
int nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned int *value) {
    WHOLE("nvmlDeviceGetCurrPcieLinkWidth")
    return link_number(value, bad("narrow") ? 4 : 16);
}
int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned int *value) {
    WHOLE("nvmlDeviceGetMaxPcieLinkWidth")
    return link_number(value, 16);
}
int nvmlDeviceGetNvLinkState(void *device, unsigned int link, unsigned int *active) {
    WHOLE("nvmlDeviceGetNvLinkState")
    if (absurd()) { *active = 77; return 0; }
    if (!profile("8x80") && !profile("bridge")) return 3;
    if (link >= (profile("bridge") ? 4U : 18U)) return 2;
    *active = 1;
    return 0;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned int link, pci_t *info) {
    WHOLE("nvmlDeviceGetNvLinkRemotePciInfo")
    address_of(info, profile("bridge") ? 0x10 + (number_of(device) == 1 ? 2 : 1) : 0xa0 + link % 4);
    return 0;
}
#ifndef OLD_DRIVER
int nvmlDeviceGetTopologyCommonAncestor(void *device, void *other, unsigned int *level) {
    WHOLE("nvmlDeviceGetTopologyCommonAncestor")
    *level = absurd() ? 77 : (number_of(device) > 4) == (number_of(other) > 4) ? 40 : 50;
    return 0;
}
int nvmlDeviceGetP2PStatus(void *device, void *other, unsigned int kind, unsigned int *status) {
    (void)other;
    WHOLE("nvmlDeviceGetP2PStatus")
    *status = absurd() ? 77 : kind == 2 && !profile("8x80") && !profile("bridge") ? 5 : 0;
    return 0;
}
#endif
static int processes(unsigned int *count, process_t *list, int graphics) {
    if (absurd()) { *count = 4294967295U; return list ? 0 : 7; }
    unsigned int found = graphics ? profile("desktop") : 2;
    if (!list || *count < found) { *count = found; return found ? 7 : 0; }
    *count = found;
    if (graphics && found) { list[0].pid = 4194302; list[0].bytes = GIB; }
    if (graphics) return 0;
    list[0].pid = (unsigned int)getpid();
    list[0].bytes = profile("wsl") ? ~0ULL : 3 * GIB;
    list[1].pid = 4194303;
    list[1].bytes = ~0ULL;
    return 0;
}
#ifdef OLD_DRIVER
#define nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetComputeRunningProcesses_v2
#define nvmlDeviceGetGraphicsRunningProcesses_v3 nvmlDeviceGetGraphicsRunningProcesses_v2
#endif
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, process_t *list) {
    (void)device;
    DEVICE("nvmlDeviceGetComputeRunningProcesses")
    return processes(count, list, 0);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned int *count, process_t *list) {
    (void)device;
    DEVICE("nvmlDeviceGetGraphicsRunningProcesses")
    return processes(count, list, 1);
}
