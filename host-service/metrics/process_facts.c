/* host-service/metrics/process_facts.c - memory, time and descriptors of this process. */
#include "host-service/metrics/process_facts.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host-service/metrics/exposition.h"

static double time_seconds(struct timeval t)
{
        return (double)t.tv_sec + (double)t.tv_usec / G_USEC_PER_SEC;
}

static void add_memory(GString *out)
{
        g_autofree char *text = NULL;
        long long pages, resident;

        if (!g_file_get_contents("/proc/self/statm", &text, NULL, NULL) ||
            sscanf(text, "%lld %lld", &pages, &resident) != 2)
                return;
        exposition_gauge(out, "process_virtual_memory_bytes", "Virtual memory.",
                         (double)pages * (double)sysconf(_SC_PAGESIZE));
        exposition_gauge(out, "process_resident_memory_bytes", "Resident memory.",
                         (double)resident * (double)sysconf(_SC_PAGESIZE));
}

static void add_descriptors(GString *out)
{
        g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
        struct rlimit limit;
        guint n = 0;

        while (dir && g_dir_read_name(dir))
                n++;
        if (dir) /* the one that counts is among them */
                exposition_gauge(out, "process_open_fds", "Open file descriptors.", n - 1);
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
                exposition_gauge(out, "process_max_fds", "Most file descriptors that may be open.",
                                 (double)limit.rlim_cur);
}

void process_facts_add(GString *out, double started_s)
{
        struct rusage usage;

        if (getrusage(RUSAGE_SELF, &usage) == 0)
                exposition_counter(out, "process_cpu_seconds_total", "CPU time, user and system.",
                                   time_seconds(usage.ru_utime) + time_seconds(usage.ru_stime));
        add_memory(out);
        add_descriptors(out);
        exposition_gauge(out, "process_start_time_seconds", "When the process started.", started_s);
}
