/* fsync_probe.c - what a guest's own work feels: a 4 KiB write + fdatasync, 20 times a second, and its
 * quantiles.
 *
 *   fsync_probe FILE            runs until SIGTERM or SIGINT, then prints "n p50_us p99_us max_us"
 *
 * A write that takes longer than the period delays the next one, and the delay is counted in the next one's
 * time (it is measured from when it was due): a stalled disk cannot hide behind a loop that waits for it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS   50000000
#define MAX_SAMPLES 1000000

static volatile sig_atomic_t ended;

static void on_signal(int signal_number)
{
        (void)signal_number;
        ended = 1;
}

static int64_t now_ns(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        static int64_t took[MAX_SAMPLES];
        static char block[4096];
        size_t n = 0;
        int fd = argc == 2 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
        if (fd < 0) {
                perror(argc == 2 ? argv[1] : "usage: fsync_probe FILE");
                return 1;
        }
        struct sigaction action = {.sa_handler = on_signal};
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);

        for (int64_t due = now_ns(); !ended && n < MAX_SAMPLES; due += PERIOD_NS) {
                struct timespec at = {due / 1000000000, due % 1000000000};
                if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
                        continue;
                memset(block, (int)n, sizeof(block));
                if (pwrite(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block) || fdatasync(fd) != 0) {
                        perror(argv[1]);
                        return 1;
                }
                took[n++] = now_ns() - due;
        }
        if (n == 0)
                return 1;
        qsort(took, n, sizeof(took[0]), compare);
        printf("%zu %lld %lld %lld\n", n, (long long)(took[n / 2] / 1000),
               (long long)(took[n * 99 / 100] / 1000), (long long)(took[n - 1] / 1000));
        return 0;
}
