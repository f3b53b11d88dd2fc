/* guest-agent/cli/offline.c - what the commands without a daemon share. */
#include "guest-agent/cli/offline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "common/error.h"
#include "guest-agent/cli/json_out.h"
#include "guest-agent/cli/state_out.h"
#include "guest-agent/config.h"
#include "proto/message.h"

void offline_options_clear(struct offline_options *o)
{
        g_free(o->root);
        g_free(o->state);
        g_free(o->sync);
}

gboolean offline_sync_mode(const struct offline_options *o, Moult__SyncMode *ret, GError **error)
{
        if (o->sync == NULL || g_str_equal(o->sync, "fast"))
                *ret = MOULT__SYNC_MODE__SYNC_FAST;
        else if (g_str_equal(o->sync, "gentle"))
                *ret = MOULT__SYNC_MODE__SYNC_GENTLE;
        else {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "--sync is fast or gentle, not \"%s\"", o->sync);
                return FALSE;
        }
        return TRUE;
}

static gboolean is_this_machine(const char *root)
{
        return g_str_equal(root, "/");
}

/* The configuration of the tree's own agent. One that cannot be read is no reason not to recover; then no way
 * back is dropped, since nobody knows how many are to be kept. */
static struct agent_config *load_config(const char *root)
{
        g_autofree char *file = is_this_machine(root) ? g_strdup(AGENT_CONFIG_FILE)
                                                      : g_build_filename(root, AGENT_CONFIG_FILE, NULL);
        g_autoptr(GError) error = NULL;
        for (int readable = 1;; readable = 0) {
                char *args[] = {(char *)"moult-agent", NULL}, **argv = args;
                int argc = 1;
                struct agent_config *c =
                        agent_config_load(&argc, &argv, readable ? file : "/nonexistent", &error);
                if (c == NULL) {
                        g_assert(readable); /* the defaults are good */
                        g_printerr("warning: without the configuration: %s\n", error->message);
                        g_clear_error(&error);
                        continue;
                }
                if (!readable)
                        c->keep_generations = G_MAXUINT;
                return c;
        }
}

static Upgrade *open_engine(const struct offline_options *o, gboolean read_only, GError **error)
{
        const char *root = o->root != NULL ? o->root : "/";
        g_autoptr(AgentConfig) c = load_config(root);
        g_autofree char *state = o->state != NULL        ? g_strdup(o->state)
                                 : is_this_machine(root) ? g_strdup(c->state)
                                                         : g_build_filename(root, c->state, NULL);
        g_autofree char *said = NULL;
        struct upgrade_config config = agent_config_upgrade(c);
        config.root = root;
        config.state_dir = state;
        if (o->workers > 0)
                config.workers = (unsigned)o->workers;
        config.idle_io = o->polite;
        config.before_services = o->boot;
        config.hooks_inside = o->inside && !is_this_machine(root);
        config.count_boots = o->count_boots;
        if (!is_this_machine(root))
                config.init_command = NULL;
        Upgrade *u = read_only ? upgrade_open_read_only(&config, &said, error)
                               : upgrade_open(&config, &said, error);
        if (u != NULL && said != NULL)
                g_printerr("%s: %s\n", read_only ? "note" : "recovered", said);
        return u;
}

Upgrade *offline_open(const struct offline_options *o, GError **error)
{
        return open_engine(o, /* read_only= */ FALSE, error);
}

Upgrade *offline_open_read_only(const struct offline_options *o, GError **error)
{
        return open_engine(o, /* read_only= */ TRUE, error);
}

void offline_push_id(guint8 ret[static 16])
{
        if (getrandom(ret, 16, 0) != 16)
                g_error("the kernel gives no random bytes");
}

PackReader *offline_open_pack(const char *path, const char *trust_dir, GError **error)
{
        g_autoptr(TrustStore) trust = trust_store_load(trust_dir, error);
        if (trust == NULL)
                return NULL;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
                moult_error_errno(error, errno, "opening the pack %s", path);
                return NULL;
        }
        g_autoptr(PackSource) source = pack_source_file_new(fd, error);
        return source != NULL ? pack_reader_open(source, trust, NULL, NULL, error) : NULL;
}

void offline_print_plan(Transaction *t, gboolean json, gboolean all)
{
        for (guint i = 0; i < transaction_plan_size(t); i++) {
                const Moult__PlanItem *item = transaction_plan_item(t, i);
                if (json) {
                        state_out_json(&item->base);
                        continue;
                }
                if (item->action == MOULT__PLAN_ACTION__PLAN_EQUAL && !all)
                        continue;
                g_autofree char *action =
                        json_out_enum_word(&moult__plan_action__descriptor, (int)item->action);
                g_autofree char *path = message_string(item->path), *reason = message_string(item->reason),
                                *owner = message_string(item->owner_package);
                g_print("%-8s /%s%s%s%s%s%s\n", action, path, *reason != '\0' ? "  " : "", reason,
                        *owner != '\0' ? "  [" : "", owner, *owner != '\0' ? "]" : "");
        }
}

gboolean offline_is_asked(int *argc, char **argv)
{
        for (int i = 1; i < *argc && !g_str_equal(argv[i], "--"); i++) {
                if (!g_str_equal(argv[i], "--offline"))
                        continue;
                memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof argv[0]);
                (*argc)--;
                return TRUE;
        }
        return FALSE;
}
