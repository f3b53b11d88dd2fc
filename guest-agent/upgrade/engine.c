/* guest-agent/upgrade/engine.c - the engine: owns the state directory, one at a time. */
#include "guest-agent/upgrade/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"

#define WORKERS_MIN 2u
#define WORKERS_MAX 8u

static gboolean open_state(Upgrade *u, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(u->state_dir);
        if (g_mkdir_with_parents(parent, 0755) < 0 || (mkdir(u->state_dir, 0700) < 0 && errno != EEXIST))
                return moult_error_errno(error, errno, "creating the state directory %s", u->state_dir);
        u->state_fd = open(u->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (u->state_fd < 0)
                return moult_error_errno(error, errno, "opening the state directory %s", u->state_dir);
        struct stat st;
        if (fstat(u->state_fd, &st) < 0)
                return moult_error_errno(error, errno, "looking at the state directory %s", u->state_dir);
        if (st.st_uid != geteuid()) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the state directory %s belongs to user %u", u->state_dir, st.st_uid);
                return FALSE;
        }
        if ((st.st_mode & 077) != 0 && fchmod(u->state_fd, 0700) < 0)
                return moult_error_errno(error, errno, "closing the state directory %s to others",
                                         u->state_dir);
        u->lock_fd = openat(u->state_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (u->lock_fd < 0)
                return moult_error_errno(error, errno, "opening the lock of %s", u->state_dir);
        if (flock(u->lock_fd, LOCK_EX | LOCK_NB) == 0)
                return TRUE;
        if (errno != EWOULDBLOCK)
                return moult_error_errno(error, errno, "locking %s", u->state_dir);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "another moult-agent works on %s: ask it (moult-agent status), or stop it first",
                    u->state_dir);
        return FALSE;
}

static Upgrade *engine_new(const struct upgrade_config *config, GError **error)
{
        g_autoptr(Upgrade) u = g_new0(Upgrade, 1);
        u->root_fd = u->state_fd = u->lock_fd = -1;
        u->root = g_strdup(config->root != NULL ? config->root : "/");
        u->state_dir = g_strdup(config->state_dir);
        u->init_command = g_strdup(config->init_command);
        u->before_services = config->before_services;
        u->count_boots = config->before_services && config->count_boots;
        u->idle_io = config->idle_io;
        u->hooks_inside = config->hooks_inside;
        u->source = (struct merge_source){
                .sysfs_pci = g_strdup(config->source.sysfs_pci),
                .sysfs_block = g_strdup(config->source.sysfs_block),
                .dev = g_strdup(config->source.dev),
                .socket = g_strdup(config->source.socket),
        };
        u->own = config->own;
        u->targetfs = merge_find_targetfs();
        u->keep_generations =
                config->keep_generations != 0 ? config->keep_generations : UPGRADE_KEEP_GENERATIONS;
        u->workers = config->workers != 0 ? config->workers
                                          : CLAMP(g_get_num_processors(), WORKERS_MIN, WORKERS_MAX);
        u->root_fd = open(u->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (u->root_fd < 0) {
                moult_error_errno(error, errno, "opening the root %s", u->root);
                return NULL;
        }
        return g_steal_pointer(&u);
}

/* NULL for nothing. */
static char *text_or_null(GString *text)
{
        return text->len > 0 ? g_strchomp(g_strdup(text->str)) : NULL;
}

Upgrade *upgrade_open(const struct upgrade_config *config, char **ret_recovered, GError **error)
{
        g_autoptr(Upgrade) u = engine_new(config, error);
        g_autoptr(GString) text = g_string_new(NULL);
        if (u == NULL || !open_state(u, error) || !recovery_run(u, text, error))
                return NULL;
        if (ret_recovered != NULL)
                *ret_recovered = text_or_null(text);
        return g_steal_pointer(&u);
}

Upgrade *upgrade_open_read_only(const struct upgrade_config *config, char **ret_unsettled, GError **error)
{
        g_autoptr(Upgrade) u = engine_new(config, error);
        g_autoptr(GString) text = g_string_new(NULL);
        if (u == NULL)
                return NULL;
        u->read_only = TRUE;
        u->state_fd = open(u->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (u->state_fd < 0 && errno != ENOENT) {
                moult_error_errno(error, errno, "opening the state directory %s", u->state_dir);
                return NULL;
        }
        if (!recovery_preview(u, text, error))
                return NULL;
        if (ret_unsettled != NULL)
                *ret_unsettled = text_or_null(text);
        return g_steal_pointer(&u);
}

void upgrade_free(Upgrade *u)
{
        if (u == NULL)
                return;
        generation_free(u->recovered);
        g_clear_pointer(&u->merger, merger_free);
        g_clear_error(&u->stuck);
        manifest_free(u->recovered_manifest);
        if (u->recovered_plan != NULL)
                moult__record__plan__free_unpacked(u->recovered_plan, NULL);
        if (u->root_fd >= 0)
                close(u->root_fd);
        if (u->state_fd >= 0)
                close(u->state_fd);
        if (u->lock_fd >= 0)
                close(u->lock_fd);
        g_free((char *)u->source.sysfs_pci);
        g_free((char *)u->source.sysfs_block);
        g_free((char *)u->source.dev);
        g_free((char *)u->source.socket);
        g_free(u->root);
        g_free(u->state_dir);
        g_free(u->init_command);
        g_free(u->targetfs);
        g_free(u);
}

const char *upgrade_stuck(const Upgrade *u)
{
        return u->stuck != NULL ? u->stuck->message : NULL;
}

/* What held the way back (an immutable flag, a full or read-only disk) may be gone. */
static gboolean get_unstuck(Upgrade *u, GError **error)
{
        g_autoptr(GString) text = g_string_new(NULL);
        if (u->stuck == NULL)
                return TRUE;
        if (!recovery_run(u, text, error))
                return FALSE;
        if (u->stuck == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                    "an earlier upgrade is only partly rolled back, and nothing else can begin before: %s",
                    u->stuck->message);
        return FALSE;
}

/* Each transaction, and each recovery, reads the objects that it makes visible once. */
static void forget_verified(Upgrade *u)
{
        if (u->merger != NULL)
                object_store_forget_verified(merger_store(u->merger));
}

gboolean engine_claim(Upgrade *u, GError **error)
{
        if (!get_unstuck(u, error))
                return FALSE;
        if (g_atomic_int_get(&u->unsettled)) {
                g_set_error_literal(
                        error, MOULT_ERROR, MOULT_ERROR_WRONG_STATE,
                        "an earlier upgrade could not be brought to an end here: restart moult-agent, "
                        "which goes on with it");
                return FALSE;
        }
        if (u->recovered == NULL && g_atomic_int_compare_and_exchange(&u->busy, 0, 1)) {
                forget_verified(u);
                return TRUE;
        }
        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                            "another upgrade is under way on this machine, or waits to be confirmed");
        return FALSE;
}

Merger *engine_merger(Upgrade *u, GError **error)
{
        struct merge_config config = {.root = u->root, .state_dir = u->state_dir, .targetfs = u->targetfs};
        if (u->merger == NULL)
                u->merger = merger_new(&config, error);
        return u->merger;
}

void engine_release(Upgrade *u)
{
        forget_verified(u);
        g_atomic_int_set(&u->busy, 0);
}

gboolean upgrade_forget_interrupted(Upgrade *u, char **ret_text, GError **error)
{
        g_autoptr(GArray) numbers = generation_list(u->state_fd, error);
        g_autoptr(GString) text = g_string_new(NULL);
        if (numbers == NULL)
                return FALSE;
        if (u->stuck != NULL) {
                g_propagate_error(error, g_error_copy(u->stuck));
                return FALSE;
        }
        for (guint i = 0; i < numbers->len; i++) {
                g_autoptr(Generation) g =
                        generation_open(u->state_fd, g_array_index(numbers, guint64, i), error);
                if (g == NULL)
                        return FALSE;
                JournalStep last = journal_last(g->journal);
                if (last == JOURNAL_NONE || last >= JOURNAL_COMMIT)
                        continue;
                if (!recovery_discard(u, g, JOURNAL_FAILED, "cancelled: interrupted before its commit",
                                      error))
                        return FALSE;
                g_string_append_printf(text, "generation %" G_GUINT64_FORMAT ": what was staged is removed\n",
                                       g->number);
        }
        if (ret_text != NULL)
                *ret_text = text->len > 0 ? g_strchomp(g_string_free(g_steal_pointer(&text), FALSE)) : NULL;
        return TRUE;
}
