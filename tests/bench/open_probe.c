/* open_probe.c - what a program that opens a file all the time finds while something is switched over it.
 *
 *   open_probe FILE OLD     says "running", opens, reads and closes FILE until its input ends, then prints
 *                           "opens failed old": how often, how often that failed, and how often the content
 *                           began with the text OLD, which nobody should see any more */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OPENS_BETWEEN_LOOKS 64

int main(int argc, char **argv)
{
        uint64_t opens = 0, failed = 0, old = 0;
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

        if (argc != 3)
                return 2;
        puts("running");
        fflush(stdout);
        while (poll(&input, 1, 0) == 0) {
                for (int i = 0; i < OPENS_BETWEEN_LOOKS; i++) {
                        char text[64] = "";
                        int fd = open(argv[1], O_RDONLY | O_CLOEXEC);

                        opens++;
                        if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
                                failed++;
                        else if (strncmp(text, argv[2], strlen(argv[2])) == 0)
                                old++;
                        if (fd >= 0)
                                close(fd);
                }
        }
        printf("%ju %ju %ju\n", (uintmax_t)opens, (uintmax_t)failed, (uintmax_t)old);
        return 0;
}
