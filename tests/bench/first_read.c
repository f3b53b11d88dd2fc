/* first_read.c - waits until a file can be opened and its first bytes are those that are expected.
 *
 *   first_read FILE TEXT    ends as soon as FILE begins with TEXT; looks 2,000 times a second */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        const struct timespec pause = {.tv_nsec = 500000};
        char text[64];

        if (argc != 3 || strlen(argv[2]) > sizeof text)
                return 2;
        for (;;) {
                int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
                ssize_t n = fd >= 0 ? read(fd, text, strlen(argv[2])) : -1;

                if (fd >= 0)
                        close(fd);
                if (n == (ssize_t)strlen(argv[2]) && memcmp(text, argv[2], (size_t)n) == 0)
                        return 0;
                nanosleep(&pause, NULL);
        }
}
