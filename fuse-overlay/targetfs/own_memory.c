/* fuse-overlay/targetfs/own_memory.c - mappings of files become private copies, in place. */
#include "fuse-overlay/targetfs/own_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define PROGRAM "moult-targetfs"
#define MEMORY  "/memfd:" PROGRAM

struct mapping {
        unsigned long start, end, inode;
        char flags[5]; /* "rwxp" */
};

static gboolean parse(const char *line, struct mapping *m)
{
        return sscanf(line, "%lx-%lx %4s %*s %*s %lu", &m->start, &m->end, m->flags, &m->inode) == 4;
}

/* The copy takes the place of the mapping in one step, so it may be the code that runs here. */
static gboolean copy_in_place(int memory, const struct mapping *m)
{
        size_t len = m->end - m->start;
        int protection = (m->flags[0] == 'r' ? PROT_READ : 0) | (m->flags[1] == 'w' ? PROT_WRITE : 0) |
                         (m->flags[2] == 'x' ? PROT_EXEC : 0);
        void *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED)
                return FALSE;
        /* Read as a file: also what no variable of ours covers, which a sanitizer would not let us copy. */
        if (!fd_pread_all(memory, copy, len, (off_t)m->start, "own memory", NULL))
                errno = EIO;
        else if (mprotect(copy, len, protection) == 0 &&
                 mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)m->start) != MAP_FAILED)
                return TRUE;
        int saved = errno;
        munmap(copy, len);
        errno = saved;
        return FALSE;
}

/* The program's file as one of memory; -1 with errno. */
static int copy_program(void)
{
        scoped_fd int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        scoped_fd int to = memfd_create(PROGRAM, MFD_CLOEXEC);
        struct stat st;

        if (from < 0 || to < 0 || fstat(from, &st) < 0)
                return -1;
        for (off_t left = st.st_size; left > 0;) {
                ssize_t n = sendfile(to, from, NULL, (size_t)left);
                if (n <= 0)
                        return -1;
                left -= n;
        }
        return g_steal_fd(&to);
}

gboolean own_program(char **argv, GError **error)
{
        g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
        if (self != NULL && g_str_has_prefix(self, MEMORY))
                return TRUE;
        scoped_fd int program = copy_program();
        if (program >= 0)
                fexecve(program, argv, environ);
        return moult_error_errno(error, errno, "starting a copy of the program from memory");
}

gboolean own_memory(GError **error)
{
        g_autofree char *maps = NULL;
        if (!g_file_get_contents("/proc/self/maps", &maps, NULL, error))
                return FALSE;
        g_auto(GStrv) lines = g_strsplit(maps, "\n", -1);
        scoped_fd int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        if (memory < 0)
                return moult_error_errno(error, errno, "opening /proc/self/mem");
        for (char **line = lines; *line != NULL; line++) {
                struct mapping m;
                if (!parse(*line, &m) || m.inode == 0 || (m.flags[3] == 's' && m.flags[1] == 'w'))
                        continue; /* what is written to a shared mapping is for others, too */
                if (g_str_has_suffix(*line, MEMORY " (deleted)"))
                        continue; /* own_program() made it: memory already */
                if (!copy_in_place(memory, &m))
                        return moult_error_errno(error, errno, "copying the program's mapping %s", *line);
        }
        return TRUE;
}
