/* mark.c - an acknowledgement in the record of a disk: NUMBER at OFFSET of DEVICE, past the page cache and
 * without a flush. A flush would make durable what the program under test forgot to sync. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        static _Alignas(4096) unsigned char block[4096];
        if (argc != 4) {
                fprintf(stderr, "usage: mark DEVICE OFFSET NUMBER\n");
                return 2;
        }
        uint64_t number = strtoull(argv[3], NULL, 10);
        memcpy(block, &number, sizeof(number)); /* little-endian: these guests are x86 */
        int fd = open(argv[1], O_WRONLY | O_DIRECT | O_CLOEXEC);
        if (fd < 0 ||
            pwrite(fd, block, sizeof(block), strtoll(argv[2], NULL, 10)) != (ssize_t)sizeof(block)) {
                perror(argv[1]);
                return 1;
        }
        return 0;
}
