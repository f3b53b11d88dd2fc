/* guest-agent/cli/offline.h - commands that work without a daemon: what they share, and their entry points.
 *
 * Those that change something open the state directory as the daemon does, which recovers what a crash left;
 * a daemon that has it is an error (BUSY). Those that only look write nothing, and may look while a daemon
 * works. */
#pragma once

#include "guest-agent/cli/command.h"
#include "guest-agent/upgrade/transaction.h"

struct offline_options {
        char *root, *state, *sync;
        gint workers;
        gboolean json, polite, boot, count_boots, inside;
};
/* GOption entries that fill @o. */
#define OFFLINE_OPTIONS(o)                                                                                   \
        {"root", 0, 0, G_OPTION_ARG_FILENAME, &(o)->root, "The tree to work on (default /)", "DIR"},         \
                {"state",     0,                                                                             \
                 0,           G_OPTION_ARG_FILENAME,                                                         \
                 &(o)->state, "State directory (default /var/lib/moult below the root)",                     \
                 "DIR"},                                                                                     \
        {                                                                                                    \
                "json", 0, 0, G_OPTION_ARG_NONE, &(o)->json, "Print JSON", NULL                              \
        }

void offline_options_clear(struct offline_options *o);
/* FALSE with @error for a bad --sync. */
gboolean offline_sync_mode(const struct offline_options *o, Moult__SyncMode *ret, GError **error);
/* With the settings of the tree's own configuration file. Tells on stderr what recovery did, if anything. */
Upgrade *offline_open(const struct offline_options *o, GError **error);
/* For commands that only look: upgrade_open_read_only(). */
Upgrade *offline_open_read_only(const struct offline_options *o, GError **error);
void offline_push_id(guint8 ret[static 16]);
PackReader *offline_open_pack(const char *path, const char *trust_dir, GError **error);
/* Line by line, or as JSON. @all: equal entries too. */
void offline_print_plan(Transaction *t, gboolean json, gboolean all);
/* True (and "--offline" taken out) if it is among the arguments. */
gboolean offline_is_asked(int *argc, char **argv);

int command_answer(int argc, char **argv);
int command_apply(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_recover(int argc, char **argv);
int command_boot_ok(int argc, char **argv);
int command_which(int argc, char **argv);
int command_history_offline(int argc, char **argv);
int command_rollback_offline(int argc, char **argv);
