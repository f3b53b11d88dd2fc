/* guest-agent/memory.c - trims heap and text.
 *
 * Most of an idle agent's resident memory is text of libcrypto and GLib that start-up or a handshake ran
 * through. Its pages are clean and in the page cache; MADV_DONTNEED takes them off our page tables, and what
 * is run again comes back by a minor fault. Only r-xp mappings of files: those are never written (read-only
 * data may be: relocations). */
#include "guest-agent/memory.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static void drop_text(void)
{
        FILE *maps = fopen("/proc/self/maps", "re");
        char line[4352];

        while (maps && fgets(line, sizeof line, maps)) {
                uintptr_t from, to;
                char mode[8], path[2];

                if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %*s %1s", &from, &to, mode, path) !=
                    4)
                        continue;
                if (strcmp(mode, "r-xp") == 0 && path[0] == '/')
                        madvise((void *)from, to - from, MADV_DONTNEED); /* a hint: nothing depends on it */
        }
        if (maps)
                fclose(maps);
}

void memory_trim(void)
{
        drop_text();
        malloc_trim(0);
}
