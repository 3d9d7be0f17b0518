"""GPUs through NVML, host memory, disks. Light."""
