/* guest-agent/upgrade/boots.c - boot counting. */
#include "guest-agent/upgrade/boots.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "guest-agent/upgrade/hooks.h"
#include "guest-agent/upgrade/merged.h"

#define NAME      "boots"
#define BYTES_MAX 4096u
#define BOOT_ID   "/proc/sys/kernel/random/boot_id"

guint boots_count(const char *text, gboolean *ret_good)
{
        guint n = 0;
        *ret_good = FALSE;
        for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
                n += g_str_has_prefix(line, "begun ");
                *ret_good = *ret_good || g_str_has_prefix(line, "good ");
        }
        return n;
}

/* "" if there is none yet. */
static char *read_boots(const Generation *g, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(GBytes) b = fd_read_file_at(g->dirfd, NAME, BYTES_MAX, &why);
        if (b == NULL && g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return g_strdup("");
        if (b == NULL) {
                g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
        }
        gsize len;
        const char *data = g_bytes_get_data(b, &len);
        return g_strndup(data != NULL ? data : "", len);
}

static gboolean append(const Generation *g, const char *word, GError **error)
{
        g_autoptr(GBytes) id = fd_read_file_at(AT_FDCWD, BOOT_ID, 64, error);
        if (id == NULL)
                return FALSE;
        g_autofree char *text = g_strndup(g_bytes_get_data(id, NULL), g_bytes_get_size(id));
        g_autofree char *line = g_strdup_printf("%s %s\n", word, g_strchomp(text));
        scoped_fd int fd =
                openat(g->dirfd, NAME, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        int fake = fault_point("boots");
        if (fd < 0 || fake != 0)
                return moult_error_errno(error, fake != 0 ? fake : errno,
                                         "counting the starts of the machine");
        if (!fd_write_all(fd, line, strlen(line), NAME, error))
                return FALSE;
        if (!fault_skip("sync-boots") && (fdatasync(fd) < 0 || fsync(g->dirfd) < 0))
                return moult_error_errno(error, errno, "counting the starts of the machine");
        return TRUE;
}

static gboolean count(Upgrade *u, const Generation *g, GString *text, GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autofree char *boots = read_boots(g, error);
        gboolean good;
        if (boots == NULL)
                return FALSE;
        guint n = boots_count(boots, &good);
        if (good)
                return TRUE;
        if (n < BOOTS_MAX) /* on a full disk the count stays behind: the machine starts all the same */
                return append(g, "begun", &why) || (g_string_append_printf(text, "%s\n", why->message), TRUE);
        g_set_error(&why, MOULT_ERROR, MOULT_ERROR_HEALTH,
                    "the machine was started %u times with it and did not get healthy", n);
        return recovery_fall_back(u, why, text, error);
}

gboolean boots_begin(Upgrade *u, GString *text, GError **error)
{
        g_autoptr(GError) why = NULL;
        /* The daemon has an eye on what is not confirmed: but it may not even be started. */
        if (u->recovered != NULL)
                return count(u, u->recovered, text, error);
        g_autoptr(Generation) g = history_newest_committed(u, &why);
        if (why != NULL) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        if (g == NULL || faccessat(g->dirfd, "plan", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return TRUE;
        return count(u, g, text, error);
}

/* The daemon runs the health checks of what is not confirmed, and decides. */
static gboolean is_newest_decided(Upgrade *u, const Generation *g, gboolean *ret, GError **error)
{
        struct wanted w;
        if (!merged_wanted(u, &w, error))
                return FALSE;
        *ret = w.generation <= g->number;
        wanted_clear(&w);
        return TRUE;
}

gboolean upgrade_boot_count(Upgrade *u, guint64 *ret_generation, guint *ret_begun, gboolean *ret_good,
                            GError **error)
{
        g_autoptr(GError) why = NULL;
        g_autoptr(Generation) g = history_newest_committed(u, &why);
        g_autofree char *boots = NULL;
        if (why != NULL) {
                g_propagate_error(error, g_steal_pointer(&why));
                return FALSE;
        }
        boots = g != NULL ? read_boots(g, error) : g_strdup("");
        if (boots == NULL)
                return FALSE;
        *ret_generation = g != NULL ? g->number : 0;
        *ret_begun = boots_count(boots, ret_good);
        return TRUE;
}

gboolean upgrade_boot_is_good(Upgrade *u, GError **error)
{
        static const guint8 no_push[16];
        g_autoptr(GError) why = NULL;
        g_autoptr(Generation) g = history_newest_committed(u, &why);
        if (g == NULL) {
                if (why != NULL)
                        g_propagate_error(error, g_steal_pointer(&why));
                return error == NULL || *error == NULL;
        }
        gboolean good, newest;
        if (!is_newest_decided(u, g, &newest, error))
                return FALSE;
        g_autofree char *boots = newest ? read_boots(g, error) : g_strdup("");
        if (boots == NULL)
                return FALSE;
        if (boots_count(boots, &good) == 0 || good)
                return TRUE;
        g_autoptr(Manifest) m = generation_load_manifest(g, error);
        if (m == NULL)
                return FALSE;
        struct hook_context h = {
                .manifest = m,
                .root = u->root,
                .generation = g->number,
                .push_id = g->offer != NULL && g->offer->push_id.len == 16 ? g->offer->push_id.data : no_push,
                .init_command = u->init_command,
        };
        return hooks_run(&h, MOULT__HOOK_STAGE__HOOK_HEALTH, error) && append(g, "good", error);
}
