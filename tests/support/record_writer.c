/* record_writer.c - numbered records, each durable before the next: for tests of restore points. Runs in a
 * guest.
 *
 *   record_writer FILE COUNTER
 *
 * Record n is the number n, 640 times, as 8 bytes each, the lowest first: more than a page, and each word of
 * it is a checksum of the others. COUNTER (in tmpfs) is the mapped word that says which was synced last. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS 640

static void die(const char *what)
{
        perror(what);
        exit(1);
}

static volatile uint64_t *map_counter(const char *path)
{
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        void *p;

        if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0)
                die(path);
        p = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                die(path);
        return p;
}

int main(int argc, char **argv)
{
        static uint64_t record[WORDS];
        volatile uint64_t *counter;
        int fd;

        if (argc != 3)
                return 2;
        counter = map_counter(argv[2]);
        fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                die(argv[1]);
        for (uint64_t n = 1;; n++) {
                for (int i = 0; i < WORDS; i++)
                        record[i] = n;
                if (write(fd, record, sizeof record) != sizeof record)
                        die("write");
                if (fdatasync(fd) < 0)
                        die("fdatasync");
                *counter = n;
        }
}
