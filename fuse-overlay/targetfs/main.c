/* fuse-overlay/targetfs/main.c - moult-targetfs: what the agent started it for, from the command line. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/events.h"
#include "common/fd.h"
#include "common/libcrypto.h"
#include "common/static_program.h"
#include "fuse-overlay/targetfs/own_memory.h"
#include "fuse-overlay/targetfs/supervise.h"

/* A merge's server is the last process that a guest should lose when memory is short. */
#define OOM_SCORE "-900\n"

struct options {
        int fuse, original, state, target, status, pack;
        char *merge, *root, *state_dir, *run_dir, *tag, *sysfs_pci, *sysfs_block, *dev, *socket;
        int attr;
};

static gboolean parse_options(int *argc, char ***argv, struct options *o, GError **error)
{
        const GOptionEntry entries[] = {
                {"fuse", 0, 0, G_OPTION_ARG_INT, &o->fuse, "/dev/fuse, mounted", "FD"},
                {"original", 0, 0, G_OPTION_ARG_INT, &o->original, "The merge's place in the original", "FD"},
                {"state", 0, 0, G_OPTION_ARG_INT, &o->state, "The agent's state directory", "FD"},
                {"target", 0, 0, G_OPTION_ARG_INT, &o->target, "The target's record", "FD"},
                {"status", 0, 0, G_OPTION_ARG_INT, &o->status, "Where to say \"ready\", or why not", "FD"},
                {"merge", 0, 0, G_OPTION_ARG_FILENAME, &o->merge, "Path of the merge, below the root",
                 "PATH"},
                {"root", 0, 0, G_OPTION_ARG_FILENAME, &o->root, "Root of the machine", "DIR"},
                {"state-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->state_dir, "Where --state is", "DIR"},
                {"run-dir", 0, 0, G_OPTION_ARG_FILENAME, &o->run_dir, "The agent's mounts", "DIR"},
                {"tag", 0, 0, G_OPTION_ARG_STRING, &o->tag, "Source of the mount", "TAG"},
                {"pack", 0, 0, G_OPTION_ARG_INT, &o->pack, "Instant mode: what was kept of the pack", "FD"},
                {"sysfs-pci", 0, 0, G_OPTION_ARG_FILENAME, &o->sysfs_pci, "Instant mode: PCI devices", "DIR"},
                {"sysfs-block", 0, 0, G_OPTION_ARG_FILENAME, &o->sysfs_block, "Instant mode: disks", "DIR"},
                {"dev", 0, 0, G_OPTION_ARG_FILENAME, &o->dev, "Instant mode: their nodes", "DIR"},
                {"socket", 0, 0, G_OPTION_ARG_FILENAME, &o->socket, "Instant mode: of the agent", "PATH"},
                {"attr", 0, 0, G_OPTION_ARG_INT, &o->attr, "Flags of the mount (MOUNT_ATTR_*)", "N"},
                G_OPTION_ENTRY_NULL,
        };
        g_autoptr(GOptionContext) context = g_option_context_new("- serve one merge of moult");
        g_option_context_set_summary(context, "Started by moult-agent, not by people: moult-targetfs(8).");
        g_option_context_add_main_entries(context, entries, NULL);
        if (!g_option_context_parse(context, argc, argv, error))
                return FALSE;
        if (*argc == 1 && o->fuse >= 0 && o->original >= 0 && o->state >= 0 && o->target >= 0 && o->merge &&
            o->root && o->state_dir && o->run_dir && o->tag)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                    "moult-targetfs is started by moult-agent, with every option: see moult-targetfs(8)");
        return FALSE;
}

static Target *read_target(int fd, GError **error)
{
        struct stat st;
        if (fstat(fd, &st) < 0 || st.st_size <= 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "the target's record is empty");
                return NULL;
        }
        g_autofree guint8 *data = g_malloc((gsize)st.st_size);
        if (!fd_pread_all(fd, data, (size_t)st.st_size, 0, "the target's record", error))
                return NULL;
        g_autoptr(GBytes) bytes = g_bytes_new_take(g_steal_pointer(&data), (gsize)st.st_size);
        return target_parse(bytes, error);
}

static gboolean find_merge(const Target *t, const char *path, struct target_merge *ret, GError **error)
{
        for (guint i = 0; i < target_n_merges(t); i++) {
                *ret = target_get_merge(t, i);
                if (g_str_equal(ret->path, path))
                        return TRUE;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "the target has no merge %s", path);
        return FALSE;
}

static gboolean start(struct options *o, GError **error)
{
        scoped_fd int fuse = o->fuse;
        g_autoptr(Target) target = read_target(o->target, error);
        struct supervise_config config = {
                .serve = {.target = target, .original_fd = o->original, .state_fd = o->state},
                .merge_config = {.root = o->root, .state_dir = o->state_dir, .run_dir = o->run_dir},
                .tag = o->tag,
                .attr = (unsigned)o->attr,
                .status_fd = o->status,
        };
        if (target == NULL || !find_merge(target, o->merge, &config.serve.merge, error))
                return FALSE;
        g_autoptr(SourcePack) pack = NULL;
        if (o->pack >= 0) {
                const struct source_pack_config source = {o->pack, o->sysfs_pci, o->sysfs_block, o->dev,
                                                          o->socket};
                pack = source_pack_new(&source, error);
                if (pack == NULL)
                        return FALSE;
        }
        config.serve.pack = pack;
        o->status = -1;
        return supervise(&config, g_steal_fd(&fuse), error);
}

/* systemd's last killing spree spares processes that other file systems depend on, by this sign
 * (https://systemd.io/ROOT_STORAGE_DAEMONS). */
static void mark_as_storage(char **argv)
{
        argv[0][0] = '@';
}

static void lower_oom_score(void)
{
        scoped_fd int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
                fd_write_all(fd, OOM_SCORE, strlen(OOM_SCORE), "oom_score_adj", NULL);
}

int main(int argc, char **argv)
{
        struct options o = {.fuse = -1, .original = -1, .state = -1, .target = -1, .status = -1, .pack = -1};
        g_autoptr(GError) error = NULL;
        g_autoptr(GError) memory_error = NULL;

#ifdef MOULT_STATIC_PROGRAM
        static_program_start();
#endif
        libcrypto_start();
        if (argc == 2 && g_str_equal(argv[1], "--version")) {
                printf("moult-targetfs %s\n", MOULT_VERSION);
                return EXIT_SUCCESS;
        }
        gboolean alone = own_program(argv, &memory_error);
        char **words = argv;
        int n = argc;
        gboolean ok = parse_options(&n, &words, &o, &error);
        /* As late as can be: libraries map more when they are used. */
        alone = ok && alone && own_memory(&memory_error);
        if (ok && !alone)
                event_log(EVENT_NOTICE, "targetfs-shares-files", memory_error->message, NULL);
        mark_as_storage(argv);
        lower_oom_score();
        ok = ok && start(&o, &error);
        if (!ok && o.status >= 0)
                fd_write_all(o.status, error->message, strlen(error->message), "status", NULL);
        else if (!ok)
                fprintf(stderr, "moult-targetfs: %s\n", error->message);
        g_free(o.merge);
        g_free(o.root);
        g_free(o.state_dir);
        g_free(o.run_dir);
        g_free(o.tag);
        g_free(o.sysfs_pci);
        g_free(o.sysfs_block);
        g_free(o.dev);
        g_free(o.socket);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
