/* guest-agent/cli/apply.c - `moult-agent apply` and `moult-agent plan`: a pack from a local file, without a
 * daemon. */
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/cli/offline.h"
#include "guest-agent/cli/state_out.h"
#include "proto/message.h"

struct apply_options {
        struct offline_options offline;
        char *trust;
        char **selection, *merge;
        gboolean no_confirm, allow_drift, all, quiet;
};

struct watching {
        Moult__TransactionPhase phase;
        gboolean json, quiet;
};

static void on_state(const Moult__TransactionState *s, gpointer user)
{
        struct watching *w = user;
        if (w->json) {
                state_out_json(&s->base);
                return;
        }
        if (w->quiet || s->phase == w->phase)
                return;
        w->phase = s->phase;
        if (s->phase == MOULT__TRANSACTION_PHASE__PHASE_ACTIVE)
                return; /* there is no host and no timer here: said at the end */
        g_autofree char *text = state_out_text(s);
        g_print("%s\n", text);
}

static int outcome(Transaction *t, const GError *error, const struct apply_options *o)
{
        Moult__TransactionState *s = transaction_state(t);
        int status = error == NULL ? AGENT_EXIT_OK : command_exit_status(error);
        if (error != NULL && s->phase == MOULT__TRANSACTION_PHASE__PHASE_ROLLED_BACK)
                status = AGENT_EXIT_ROLLED_BACK;
        if (!o->offline.json && error != NULL)
                g_printerr("moult-agent: %s\n", error->message);
        else if (!o->offline.json)
                g_print("%u changed, %u equal; staged in %.3f s, switched in %.3f s\n", s->entries_change,
                        s->entries_equal, (double)s->staging_us / 1e6, (double)s->switch_us / 1e6);
        transaction_state_free(s);
        return status;
}

static gboolean go_through(Transaction *t, const struct apply_options *o, GError **error)
{
        if (!transaction_stage(t, NULL, error) || !transaction_commit(t, NULL, error))
                return FALSE;
        if (!o->no_confirm)
                return transaction_confirm(t, error);
        if (!o->offline.json)
                g_print("active, not confirmed: \"moult-agent recover --confirm\" keeps it, \"moult-agent "
                        "recover --back\" "
                        "takes it back\n");
        return TRUE;
}

static int run(const struct apply_options *o, const char *pack_path, gboolean dry_run)
{
        g_autoptr(GError) error = NULL;
        struct transaction_request request = {
                .allow_drift = o->allow_drift,
                .dry_run = dry_run,
                .selection = (const char *const *)o->selection,
                .workers = o->offline.workers > 0 ? (unsigned)o->offline.workers : 0,
        };
        struct watching w = {.json = o->offline.json && !dry_run, .quiet = o->quiet || dry_run};
        offline_push_id(request.push_id);
        if (o->merge != NULL && !merge_method_parse(o->merge, &request.merge)) {
                g_printerr("moult-agent: --merge is one of auto, overlay, bind, union; not '%s'\n", o->merge);
                return AGENT_EXIT_USAGE;
        }
        if (!offline_sync_mode(&o->offline, &request.sync_mode, &error)) {
                command_fail(error);
                return AGENT_EXIT_USAGE;
        }
        g_autoptr(PackReader) pack = offline_open_pack(pack_path, o->trust, &error);
        if (pack == NULL)
                return command_fail(error);
        g_autoptr(Upgrade) u =
                dry_run ? offline_open_read_only(&o->offline, &error) : offline_open(&o->offline, &error);
        if (u == NULL)
                return command_fail(error);
        g_autoptr(Transaction) t = transaction_new(u, pack, &request, on_state, &w, &error);
        if (t == NULL)
                return command_fail(error);
        gboolean ok = transaction_plan(t, NULL, &error);
        if (dry_run || (!ok && !o->offline.json))
                offline_print_plan(t, o->offline.json, o->all);
        if (ok && !dry_run)
                go_through(t, o, &error);
        return outcome(t, error, o);
}

static int parse_and_run(int argc, char **argv, gboolean dry_run)
{
        struct apply_options o = {0};
        const GOptionEntry entries[] = {
                OFFLINE_OPTIONS(&o.offline),
                {"trust", 0, 0, G_OPTION_ARG_FILENAME, &o.trust,
                 "Directory of trusted public keys (default /etc/moult/trusted.d)", "DIR"},
                {"workers", 0, 0, G_OPTION_ARG_INT, &o.offline.workers, "Staging threads (default: by CPUs)",
                 "N"},
                {"sync", 0, 0, G_OPTION_ARG_STRING, &o.offline.sync,
                 "fast: each file system once; gentle: file by file, giving way", "MODE"},
                {"idle", 0, 0, G_OPTION_ARG_NONE, &o.offline.polite, "Stage at idle I/O priority", NULL},
                {"inside", 0, 0, G_OPTION_ARG_NONE, &o.offline.inside,
                 "The tree is a machine that does not run: its hooks run in it (chroot), health hooks not at "
                 "all",
                 NULL},
                {"no-confirm", 0, 0, G_OPTION_ARG_NONE, &o.no_confirm, "Stop at active", NULL},
                {"allow-drift", 0, 0, G_OPTION_ARG_NONE, &o.allow_drift,
                 "Overwrite files that are not what the release expects", NULL},
                {"select", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &o.selection,
                 "Only this path and what it depends on (repeatable)", "PATH"},
                {"merge", 0, 0, G_OPTION_ARG_STRING, &o.merge,
                 "How files that cannot be written are merged: auto, overlay, bind, union", "METHOD"},
                {"all", 0, 0, G_OPTION_ARG_NONE, &o.all, "List entries that are equal, too", NULL},
                {"quiet", 'q', 0, G_OPTION_ARG_NONE, &o.quiet, "Only the result", NULL},
                G_OPTION_ENTRY_NULL};
        int status = AGENT_EXIT_USAGE;
        if (!command_parse(
                    &argc, &argv, entries, "PACK",
                    dry_run ? "Says what applying the pack would do, entry by entry. Nothing is written."
                            : "Applies a pack as one transaction, without the daemon.",
                    &status)) {
                /* status is set */
        } else if (argc != 2) {
                g_printerr("%s: one pack is needed\n", g_get_prgname());
                status = AGENT_EXIT_USAGE;
        } else {
                if (o.trust == NULL)
                        o.trust = g_strdup("/etc/moult/trusted.d");
                status = run(&o, argv[1], dry_run);
        }
        g_free(o.trust);
        g_free(o.merge);
        g_strfreev(o.selection);
        offline_options_clear(&o.offline);
        return status;
}

int command_apply(int argc, char **argv)
{
        return parse_and_run(argc, argv, FALSE);
}

int command_plan(int argc, char **argv)
{
        return parse_and_run(argc, argv, TRUE);
}
