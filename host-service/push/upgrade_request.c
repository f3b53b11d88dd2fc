/* host-service/push/upgrade_request.c - a guest's own request for an upgrade. */
#include "host-service/push/upgrade_request.h"

#include <string.h>

#include "common/fs_beneath.h"
#include "host-service/jobs/push_operation.h"
#include "proto/limits.h"
#include "proto/message.h"

/* Pushes of one VM that are looked through for one that does the same already. */
#define PENDING_MAX 64u
/* Of one VM: a guest that asks and asks holds no more than these, and nobody else waits for them. */
#define UNFINISHED_MAX 4
/* The dead-man time of pushes that nobody at the console set one for. */
#define CONFIRM_TIMEOUT_MS 60000u

static int compare_paths(gconstpointer a, gconstpointer b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, unique, relative. */
static GStrv take_paths(const Moult__UpgradeRequest *request, GError **error)
{
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

        for (gsize i = 0; i < MIN(request->n_paths, LIMIT_SELECTION); i++) {
                const guint8 *path = request->paths[i].data;
                gsize len = request->paths[i].len;
                const char *why;

                for (; len > 0 && *path == '/'; path++)
                        len--;
                why = fs_path_refusal(path, len);
                if (why) {
                        g_autofree char *shown = message_string(request->paths[i]);

                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "\"%s\" cannot be asked for: %s", shown, why);
                        return NULL;
                }
                g_ptr_array_add(paths, g_strndup((const char *)path, len));
        }
        if (paths->len == 0) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "the request names no file");
                return NULL;
        }
        g_ptr_array_sort(paths, compare_paths);
        for (guint i = 1; i < paths->len;)
                if (strcmp(paths->pdata[i - 1], paths->pdata[i]) == 0)
                        g_ptr_array_remove_index(paths, i);
                else
                        i++;
        g_ptr_array_add(paths, NULL);
        return (GStrv)g_ptr_array_free(g_steal_pointer(&paths), FALSE);
}

/* NOT_FOUND with all paths that no release has; with none of them, no release has all of the paths together.
 */
static void explain_missing(Catalogue *c, const char *const *paths, GError **error)
{
        g_autoptr(GString) text = g_string_new(NULL);

        for (; *paths && text->len < LIMIT_TEXT / 2; paths++) {
                const char *one[] = {*paths, NULL};
                g_autoptr(ReleaseRecord) r = catalogue_release_with_paths(c, one, NULL);

                if (!r) {
                        ProtobufCBinaryData raw = message_bytes(*paths);
                        g_autofree char *shown = message_string(raw);

                        g_string_append_printf(text, "%s/%s", text->len ? ", " : "", shown);
                }
        }
        g_clear_error(error);
        if (text->len)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND, "no imported release has: %s",
                            text->str);
        else
                g_set_error_literal(
                        error, MOULT_ERROR, MOULT_ERROR_NOT_FOUND,
                        "no single imported release has all of these files; ask for them one by one");
}

static gboolean same_selection(GStrv a, GStrv b)
{
        return a && b && g_strv_equal((const char *const *)a, (const char *const *)b);
}

static char *find_pending(Catalogue *c, const char *vm, const ReleaseRecord *release, GStrv paths)
{
        g_autoptr(GPtrArray) pushes = catalogue_push_list_vm(c, vm, PENDING_MAX, NULL);

        for (guint i = 0; pushes && i < pushes->len; i++) {
                const PushRecord *p = pushes->pdata[i];

                if (!push_state_is_final(p->state) && !p->held_back && p->state < PUSH_STATE_UNPLUG &&
                    !p->options.rollback && !p->options.dry_run &&
                    memcmp(p->digest, release->digest, DIGEST_SIZE) == 0 &&
                    (!p->options.selection || same_selection(p->options.selection, paths)))
                        return g_strdup(p->operation);
        }
        return NULL;
}

static gboolean check_room(Catalogue *c, const char *vm, GError **error)
{
        gint64 open = catalogue_operation_count_open(c, vm);

        if (open >= 0 && open < UNFINISHED_MAX)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    "%d upgrades that this VM asked for are not finished yet; ask again when one of them is",
                    UNFINISHED_MAX);
        return FALSE;
}

char *upgrade_request_accept(const struct host_env *env, Catalogue *c, Jobs *j, const char *vm,
                             const Moult__UpgradeRequest *request, gboolean *ret_merged, GError **error)
{
        g_auto(GStrv) paths = take_paths(request, error);
        g_autoptr(ReleaseRecord) release = NULL;
        struct push_options options = {.confirm_timeout_ms = CONFIRM_TIMEOUT_MS};
        g_autofree char *operation = NULL;

        if (!paths)
                return NULL;
        release = catalogue_release_with_paths(c, (const char *const *)paths, error);
        if (!release) {
                explain_missing(c, (const char *const *)paths, error);
                return NULL;
        }
        operation = find_pending(c, vm, release, paths);
        *ret_merged = operation != NULL;
        options.selection = paths;
        if (operation)
                return g_steal_pointer(&operation);
        return check_room(c, vm, error)
                       ? push_operation_add_for_guest(env, c, j, release, vm, &options, error)
                       : NULL;
}
