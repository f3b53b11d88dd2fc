/* guest-agent/facts.c - what of this guest decides how upgrades go here. */
#include "guest-agent/facts.h"

#include <glob.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fuse-overlay/merge.h"
#include "fuse-overlay/merge_reach.h"
#include "guest-agent/version.h"
#include "proto/handshake.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "shm/keys.h"

void facts_free(Moult__Facts *f)
{
        if (f)
                moult__facts__free_unpacked(f, NULL);
}

void facts_set(ProtobufCBinaryData *field, char *text, gsize max)
{
        gsize len = text ? strlen(text) : 0;

        g_free(field->data);
        field->len = MIN(len, max);
        field->data = len ? (guint8 *)text : NULL;
        if (!len)
                g_free(text);
}

static void look_at_keys(Moult__Facts *f, const char *dir)
{
        g_autoptr(GError) error = NULL;
        g_autoptr(TrustStore) trust = trust_store_load(dir, &error);

        if (!trust) {
                facts_set(&f->keys_problem, g_strdup(error->message), LIMIT_TEXT);
                return;
        }
        f->n_keys = MIN(trust_store_count(trust), LIMIT_FACTS_KEYS);
        f->keys = g_new0(ProtobufCBinaryData, MAX(f->n_keys, 1));
        for (guint i = 0; i < f->n_keys; i++)
                f->keys[i] = message_blob(g_memdup2(trust_store_id(trust, i), DIGEST_SIZE), DIGEST_SIZE);
}

static void look_at_namespace(Moult__Facts *f, const char *root)
{
        enum merge_reach reach = g_str_equal(root, "/") ? merge_reach_of_root() : REACH_UNKNOWN;

        if (reach == REACH_UNKNOWN)
                return;
        f->own_namespace = reach == REACH_SAME ? MOULT__SIGHT__SIGHT_NO : MOULT__SIGHT__SIGHT_YES;
        f->merges_seen = reach == REACH_HIDDEN ? MOULT__SIGHT__SIGHT_NO : MOULT__SIGHT__SIGHT_YES;
}

static gboolean is_there(const char *root, const char *pattern)
{
        g_autofree char *path = g_build_filename(root, pattern, NULL);
        glob_t found = {0};
        gboolean any = glob(path, 0, NULL, &found) == 0 && found.gl_pathc > 0;

        globfree(&found);
        return any;
}

/* moult-recover counts; what starts it, and with which init, is the guest's own matter. */
static Moult__Sight look_who_counts_boots(const char *root)
{
        static const char *const links[] = {
                "etc/systemd/system/*.wants/moult-recover.service",
                "usr/lib/systemd/system/*.wants/moult-recover.service",
                "etc/rcS.d/S*moult-recover",
                "etc/rc[2345].d/S*moult-recover",
                "etc/runlevels/*/moult-recover",
        };

        for (guint i = 0; i < G_N_ELEMENTS(links); i++)
                if (is_there(root, links[i]))
                        return MOULT__SIGHT__SIGHT_YES;
        return is_there(root, "run/systemd/system") || is_there(root, "etc/rcS.d")
                       ? MOULT__SIGHT__SIGHT_NO
                       : MOULT__SIGHT__SIGHT_UNKNOWN;
}

/* The records of the upgrades, beside the engine that may be at work. */
static void look_at_upgrades(Moult__Facts *f, const struct agent_config *config)
{
        struct upgrade_config upgrade = agent_config_upgrade(config);
        g_autofree char *unsettled = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(Upgrade) u = upgrade_open_read_only(&upgrade, &unsettled, &error);
        gboolean good = FALSE;

        if (u && upgrade_boot_count(u, &f->generation, &f->starts_begun, &good, &error)) {
                f->starts_good = good;
                facts_set(&f->unsettled, g_steal_pointer(&unsettled), LIMIT_TEXT);
        } else {
                facts_set(&f->state_problem, g_strdup(error->message), LIMIT_TEXT);
        }
}

static void look_at_server(Moult__Facts *f)
{
        g_autofree char *path = merge_find_targetfs();

        f->target_server = access(path, X_OK) == 0 ? MOULT__SIGHT__SIGHT_YES : MOULT__SIGHT__SIGHT_NO;
}

Moult__Facts *facts_look(const struct agent_config *config, Moult__TransactionPhase phase)
{
        Moult__Facts *f = g_new0(Moult__Facts, 1);
        struct utsname name;

        moult__facts__init(f);
        facts_set(&f->software, g_strdup(agent_software()), LIMIT_SOFTWARE);
        f->protocol = PROTOCOL_VERSION_MAX;
        f->phase = phase;
        if (uname(&name) == 0)
                facts_set(&f->kernel, g_strdup(name.release), LIMIT_FACTS_WORD);
        look_at_keys(f, config->trust);
        facts_look_places(f, config->root, config->state);
        facts_look_kernel(f, config);
        look_at_server(f);
        look_at_namespace(f, config->root);
        f->boots_counted = look_who_counts_boots(config->root);
        look_at_upgrades(f, config);
        f->clock_us = (guint64)g_get_real_time(); /* last: the host takes it for the time of the answer */
        return f;
}
