/* A driver that misbehaves on request, for tests of the real pynvml.
 *
 * FAKE_NVML        comma separated FUNCTION=CODE; CODE is an NVML return code, `hang` (30 s) or `lost:N` (code 15 after N
 *                  calls of that function). `*` stands for every device function.
 * FAKE_NVML_GPUS   number of GPUs, 1 when not set.
 * FAKE_NVML_ABSURD set: every number is impossible.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int pid; unsigned long long bytes; unsigned int gi, ci; } process_t;

static int calls = 0;

static int verdict(const char *name, int device_function) {
    const char *faults = getenv("FAKE_NVML");
    char copy[4096];
    if (!faults) return 0;
    strncpy(copy, faults, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    for (char *entry = strtok(copy, ","); entry; entry = strtok(NULL, ",")) {
        char *equals = strchr(entry, '=');
        if (!equals) continue;
        *equals = 0;
        if (strcmp(entry, name) && !(device_function && !strcmp(entry, "*"))) continue;
        const char *code = equals + 1;
        if (!strcmp(code, "hang")) { sleep(30); return 10; }
        if (!strncmp(code, "lost:", 5)) return ++calls > atoi(code + 5) ? 15 : 0;
        return atoi(code);
    }
    return 0;
}

static int absurd(void) { return getenv("FAKE_NVML_ABSURD") != NULL; }

#define SYSTEM(name) { int code = verdict(name, 0); if (code) return code; }
#define DEVICE(name) { int code = verdict(name, 1); if (code) return code; }

int nvmlInitWithFlags(unsigned int flags) { (void)flags; SYSTEM("nvmlInit") return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) {
    SYSTEM("nvmlSystemGetDriverVersion")
    snprintf(text, size, absurd() ? "" : "590.12.01");
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
    *count = gpus ? (unsigned int)atoi(gpus) : 1;
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    DEVICE("nvmlDeviceGetHandleByIndex")
    *device = (void *)(size_t)(index + 1);
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned int size) {
    DEVICE("nvmlDeviceGetName")
    snprintf(text, size, absurd() ? "\033[2J\033]52;c;AA\a" : "Fake H%zu", (size_t)device * 100);
    return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned int size) {
    DEVICE("nvmlDeviceGetUUID")
    snprintf(text, size, "GPU-%08zu-aaaa", (size_t)device - 1);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    (void)device;
    DEVICE("nvmlDeviceGetCudaComputeCapability")
    *major = absurd() ? -7 : 9;
    *minor = 0;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    (void)device;
    DEVICE("nvmlDeviceGetMemoryInfo")
    memory->total = absurd() ? ~0ULL : 24ULL << 30;
    memory->used = absurd() ? 1ULL << 63 : 4ULL << 30;
    memory->free = absurd() ? ~0ULL : 20ULL << 30;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    (void)device;
    DEVICE("nvmlDeviceGetUtilizationRates")
    rates->gpu = absurd() ? 4000000000U : 37;
    rates->memory = 12;
    return 0;
}
int nvmlDeviceGetTemperature(void *device, unsigned int sensor, unsigned int *celsius) {
    (void)device; (void)sensor;
    DEVICE("nvmlDeviceGetTemperature")
    *celsius = absurd() ? 4294967295U : 61;
    return 0;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned int *milliwatts) {
    (void)device;
    DEVICE("nvmlDeviceGetPowerUsage")
    *milliwatts = absurd() ? 4294967295U : 250500;
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, process_t *processes) {
    (void)device;
    DEVICE("nvmlDeviceGetComputeRunningProcesses")
    if (absurd()) { *count = 100000; return processes ? 0 : 7; }
    if (!processes) { *count = 2; return 7; }
    *count = 2;
    processes[0].pid = (unsigned int)getpid();
    processes[0].bytes = 3ULL << 30;
    processes[1].pid = 4194303;
    processes[1].bytes = ~0ULL;
    return 0;
}
