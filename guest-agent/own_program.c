/* guest-agent/own_program.c - the program that this process runs, and the one that comes after it. */
#include "guest-agent/own_program.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "guest-agent/upgrade/process.h"

#define SELF "/proc/self/exe"
/* The trial's own limit is shorter, and says what it waited for. */
#define HELLO_WITHIN_S 30u
#define TRY_WITHIN_MS  ((HELLO_WITHIN_S + 20u) * 1000u)
#define LAST_WORDS     400u

struct OwnProgram {
        char *path; /* NULL: not known */
        dev_t dev;
        ino_t inode;
        GStrv arguments; /* of "run", without it */
};

OwnProgram *own_program_new(int argc, char **argv)
{
        OwnProgram *p = g_new0(OwnProgram, 1);
        g_autofree char *path = g_file_read_link(SELF, NULL);
        struct stat self, there;

        p->arguments = g_new0(char *, argc + 1);
        for (int i = 1; i < argc; i++)
                p->arguments[i - 1] = g_strdup(argv[i]);
        if (path && stat(SELF, &self) == 0 && stat(path, &there) == 0 && self.st_dev == there.st_dev &&
            self.st_ino == there.st_ino) {
                p->path = g_steal_pointer(&path);
                p->dev = self.st_dev;
                p->inode = self.st_ino;
        }
        return p;
}

void own_program_free(OwnProgram *p)
{
        if (!p)
                return;
        g_free(p->path);
        g_strfreev(p->arguments);
        g_free(p);
}

gboolean own_program_object(const OwnProgram *p, dev_t *ret_dev, ino_t *ret_inode)
{
        *ret_dev = p->dev;
        *ret_inode = p->inode;
        return p->path != NULL;
}

gboolean own_program_is_replaced(const OwnProgram *p)
{
        struct stat there;

        return p->path && stat(p->path, &there) == 0 && S_ISREG(there.st_mode) &&
               (there.st_dev != p->dev || there.st_ino != p->inode);
}

/* ---- trial ---- */

static guint16 own_machine(void)
{
        guint16 machine = EM_NONE;
        ElfW(Ehdr) head;
        g_autofree char *bytes = NULL;
        gsize len;

        if (g_file_get_contents(SELF, &bytes, &len, NULL) && len >= sizeof head) {
                memcpy(&head, bytes, sizeof head);
                machine = head.e_machine;
        }
        return machine;
}

char *own_program_misfit(const guint8 *head, gsize len)
{
        const char *what = NULL;
        guint16 machine;

        if (len >= 2 && memcmp(head, "#!", 2) == 0)
                return NULL;
        if (len < sizeof(ElfW(Ehdr)) || memcmp(head, ELFMAG, SELFMAG) != 0)
                return g_strdup("it is no program");
        if (head[EI_DATA] != (G_BYTE_ORDER == G_LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB))
                what = "of the other byte order";
        memcpy(&machine, head + offsetof(ElfW(Ehdr), e_machine), sizeof machine);
        if (what)
                return g_strdup_printf("it is a program for machines %s", what);
        if (machine != own_machine())
                return g_strdup_printf(
                        "it is a program for another kind of machine (ELF machine %u; this one is %u)",
                        machine, own_machine());
        return NULL;
}

static gboolean check_kind(int fd, GError **error)
{
        guint8 head[sizeof(ElfW(Ehdr))];
        ssize_t n = pread(fd, head, sizeof head, 0);
        g_autofree char *misfit = NULL;

        if (n < 0)
                return moult_error_errno(error, errno, "reading the new agent");
        misfit = own_program_misfit(head, (gsize)n);
        if (misfit)
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_HEALTH, misfit);
        return misfit == NULL;
}

/* Not to be told to the service manager, and without what was armed for this process. */
static GStrv environment_for_trial(void)
{
        static const char *const not [] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "MOULT_FAULT",
                                           "MOULT_FAULT_TRACE", "MOULT_FAULT_HOLD"};
        GStrv e = g_get_environ();

        for (gsize i = 0; i < G_N_ELEMENTS(not ); i++)
                e = g_environ_unsetenv(e, not [i]);
        return e;
}

/* The last line: before it is its log. */
static char *last_words(const char *output)
{
        g_autofree char *text = g_strchomp(g_strdup(output));
        const char *line = strrchr(text, '\n');
        char *words = g_utf8_substring(line ? line + 1 : text, 0,
                                       MIN(g_utf8_strlen(line ? line + 1 : text, -1), LAST_WORDS));

        return g_strstrip(words);
}

gboolean own_program_try(const OwnProgram *p, int fd, gboolean with_host, GError **error)
{
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        g_autofree char *patience =
                g_strdup_printf("--hello-within=%u", !with_host                     ? 0
                                                     : fault_skip("trial-patience") ? 1
                                                                                    : HELLO_WITHIN_S);
        g_auto(GStrv) environment = environment_for_trial();
        struct process_request q = {.script_fd = fd, .timeout_ms = TRY_WITHIN_MS};
        struct process_result r = {0};
        gboolean good;

        if (!check_kind(fd, error))
                return FALSE;
        g_ptr_array_add(argv, (gpointer) "/proc/self/fd/3");
        g_ptr_array_add(argv, (gpointer) "try");
        g_ptr_array_add(argv, patience);
        for (gsize i = 0; p->arguments[i]; i++)
                g_ptr_array_add(argv, p->arguments[i]);
        g_ptr_array_add(argv, NULL);
        q.argv = (const char *const *)argv->pdata;
        q.environment = (const char *const *)environment;
        if (!process_run(&q, &r, error)) {
                g_prefix_error(error, "it could not be started: ");
                return FALSE;
        }
        g_autofree char *failure = process_failure(&r, TRY_WITHIN_MS);
        /* A program that ends with 0 whatever it is asked is no agent. */
        good = !failure && strstr(r.output, OWN_PROGRAM_GOOD);
        if (!good) {
                g_autofree char *said = last_words(r.output);

                g_set_error(error, MOULT_ERROR, MOULT_ERROR_HEALTH, "%s%s%s%s",
                            failure ? failure : "it does not say that it is good",
                            r.exit_status == 2
                                    ? " (an agent from before there were trials is installed by its package)"
                                    : "",
                            *said ? "; its last words: " : "", said);
        }
        process_result_clear(&r);
        return good;
}

void own_program_execute(const OwnProgram *p, GError **error)
{
        g_autoptr(GPtrArray) argv = g_ptr_array_new();

        g_ptr_array_add(argv, p->path);
        g_ptr_array_add(argv, (gpointer) "run");
        for (gsize i = 0; p->arguments[i]; i++)
                g_ptr_array_add(argv, p->arguments[i]);
        g_ptr_array_add(argv, NULL);
        execv(p->path, (char *const *)argv->pdata);
        moult_error_errno(error, errno, "starting %s in place of this agent", p->path);
}
