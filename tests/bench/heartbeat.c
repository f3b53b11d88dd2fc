/* heartbeat.c - shows from outside how long a guest stands still: it counts in memory that guest and host
 * share, because a guest's own clocks do not see a stop.
 *
 *     heartbeat write MEMORY FILE    in the guest, until it is killed; MEMORY: its "resource2"
 *     heartbeat watch MEMORY         on the host: after each line on standard input prints four numbers
 *
 * The numbers: the longest times since the line before in which the count of writes and that of ticks stood
 * still, in microseconds, and how far they went. Writes are of 4 KiB with fdatasync, one after the other; the
 * ticker turns all the time. Neither has a priority: who takes a snapshot from inside the guest must get on,
 * too. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 200000

enum { WRITES, TICKS, COUNTERS };

struct beat {
        _Alignas(64) _Atomic uint64_t n; /* in a cache line of its own */
};

static int64_t now_ns(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
        perror(what);
        exit(1);
}

static void *tick(void *user)
{
        struct beat *beats = user;
        for (;;)
                beats[TICKS].n++;
        return NULL;
}

static void write_all_the_time(struct beat *beats, const char *path)
{
        static char block[4096];
        pthread_t thread;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
                die(path);
        if (pthread_create(&thread, NULL, tick, beats) != 0)
                die("a thread");
        for (;;) {
                memset(block, (int)beats[WRITES].n, sizeof(block));
                if (pwrite(fd, block, sizeof(block), 0) != (ssize_t)sizeof(block) || fdatasync(fd) != 0)
                        die(path);
                beats[WRITES].n++;
        }
}

/* As long as standard input gives nothing. */
static void look(const struct beat *beats, int64_t longest_ns[COUNTERS], uint64_t counted[COUNTERS])
{
        uint64_t last[COUNTERS], first[COUNTERS];
        int64_t since[COUNTERS];
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        const struct timespec wait = {.tv_nsec = LOOK_NS};

        for (int i = 0; i < COUNTERS; i++) {
                first[i] = last[i] = beats[i].n;
                since[i] = now_ns();
                longest_ns[i] = 0;
        }
        while (ppoll(&in, 1, &wait, NULL) == 0) {
                for (int i = 0; i < COUNTERS; i++) {
                        uint64_t n = beats[i].n;
                        int64_t now = now_ns();
                        if (now - since[i] > longest_ns[i])
                                longest_ns[i] = now - since[i];
                        if (n != last[i]) {
                                last[i] = n;
                                since[i] = now;
                        }
                }
        }
        for (int i = 0; i < COUNTERS; i++)
                counted[i] = last[i] - first[i];
}

static void watch(const struct beat *beats)
{
        char line[64];
        int64_t longest_ns[COUNTERS];
        uint64_t counted[COUNTERS];
        struct sched_param fifo = {.sched_priority = 50};

        setvbuf(stdin, NULL, _IONBF, 0);
        if (sched_setscheduler(0, SCHED_FIFO, &fifo) != 0)
                fprintf(stderr, "heartbeat: watching at an ordinary priority: %s\n", strerror(errno));
        for (;;) {
                look(beats, longest_ns, counted);
                if (!fgets(line, sizeof(line), stdin))
                        return;
                printf("%lld %lld %llu %llu\n", (long long)(longest_ns[WRITES] / 1000),
                       (long long)(longest_ns[TICKS] / 1000), (unsigned long long)counted[WRITES],
                       (unsigned long long)counted[TICKS]);
                fflush(stdout);
        }
}

int main(int argc, char **argv)
{
        int writes = argc == 4 && strcmp(argv[1], "write") == 0;

        if (!writes && !(argc == 3 && strcmp(argv[1], "watch") == 0)) {
                fprintf(stderr, "usage: heartbeat write MEMORY FILE | heartbeat watch MEMORY\n");
                return 2;
        }
        int fd = open(argv[2], O_RDWR | O_CLOEXEC);
        if (fd < 0)
                die(argv[2]);
        struct beat *beats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (beats == MAP_FAILED)
                die(argv[2]);
        if (writes)
                write_all_the_time(beats, argv[3]);
        else
                watch(beats);
        return 0;
}
