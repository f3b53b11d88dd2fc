/* host-service/cli/snapshot_care.c - moult snapshot verify, remove, prune: are restore points sound, and
 * which of them stay. */
#include <string.h>

#include "host-service/cli/client.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/output.h"
#include "host-service/cli/remote.h"
#include "host-service/cli/snapshot.h"
#include "host-service/cli/store_result.h"
#include "host-service/cli/text.h"

static void print_point(Cli *cli, JsonObject *p)
{
        const char *store = json_text(p, "store"), *files = json_text(p, "files");
        gboolean good = g_strcmp0(json_text(p, "state"), "good") == 0;

        output_words(cli, "%s %s: %s (store: %s, files here: %s)%s\n", json_text(p, "vm"),
                     json_text(p, "name"),
                     good                          ? "good"
                     : json_flag(p, "rebuildable") ? "damaged, can be had"
                                                   : "DAMAGED, CANNOT BE HAD",
                     store, files,
                     json_flag(p, "compared")  ? ", rebuilt from the store and equal to the files"
                     : json_flag(p, "rebuilt") ? ", rebuilt from the store"
                                               : "");
}

void snapshot_verify_print(Cli *cli, JsonObject *operation)
{
        JsonObject *o = json_child(operation, "result");
        JsonArray *points, *findings;

        if (g_strcmp0(json_text(operation, "kind"), "snapshot-verify") != 0 || !o)
                return;
        points = json_list(o, "snapshots");
        findings = json_list(o, "findings");
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "bytes"), 0));
        for (guint i = 0; findings && i < json_array_get_length(findings); i++)
                finding_print(cli, json_array_get_object_element(findings, i));
        if (json_number(o, "more") > 0)
                output_words(cli, "... and %" G_GINT64_FORMAT " more of the kind\n", json_number(o, "more"));
        for (guint i = 0; points && i < json_array_get_length(points); i++)
                print_point(cli, json_array_get_object_element(points, i));
        output_words(cli,
                     "%" G_GINT64_FORMAT " good, %" G_GINT64_FORMAT " damaged; %" G_GINT64_FORMAT
                     " layers and %" G_GINT64_FORMAT " chunks (%s) of the store and %" G_GINT64_FORMAT
                     " files here looked at\n",
                     json_number(o, "good"), json_number(o, "damaged"), json_number(o, "layers"),
                     json_number(o, "chunks"), bytes, json_number(o, "files"));
}

static ExitCode run_verify(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean deep = FALSE, detach = FALSE;
        g_autofree char *scratch = NULL, *path = NULL;
        const GOptionEntry entries[] = {
                {"deep", 0, 0, G_OPTION_ARG_NONE, &deep,
                 "Also rebuild each from the store, and compare it with the files here", NULL},
                {"scratch", 0, 0, G_OPTION_ARG_FILENAME, &scratch,
                 "With --deep: where, on moultd's host (default: its state directory)", "DIR"},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 0, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        if (argc > 1)
                json_object_set_string_member(body, "vm", argv[1]);
        if (argc > 2)
                json_object_set_string_member(body, "snapshot", argv[2]);
        json_object_set_boolean_member(body, "deep", deep);
        if (scratch) {
                path = g_canonicalize_filename(scratch, NULL);
                json_object_set_string_member(body, "scratch", path);
        }
        return remote_ask_for(cli, "/v1/snapshots/verify", body, detach, error);
}

const struct command command_snapshot_verify = {
        .name = "verify",
        .arguments = "[VM [NAME]] [OPTION...]",
        .summary = "Check that restore points can be had: in the store, and in files here",
        .details = "In the store each map and chunk is fetched once and compared with its digest; of files "
                   "here the chain is looked at, each file inside, and what it stands on. Ends with 0 if all "
                   "are good, with 13 (corrupt) if any is damaged. Nothing is changed.",
        .run = run_verify,
};

/* ---- remove, prune ---- */

static char *reasons_of(JsonObject *kept)
{
        JsonArray *reasons = json_list(kept, "reasons");
        g_autoptr(GString) s = g_string_new(NULL);

        for (guint i = 0; reasons && i < json_array_get_length(reasons); i++)
                g_string_append_printf(s, "%s%s", i ? ", " : "", json_array_get_string_element(reasons, i));
        return g_string_free(g_steal_pointer(&s), FALSE);
}

gboolean snapshot_prune_print(Cli *cli, const char *kind, JsonObject *o)
{
        JsonArray *removed = json_list(o, "removed"), *kept = json_list(o, "kept");
        gboolean dry = json_flag(o, "dry_run");
        guint n = removed ? json_array_get_length(removed) : 0;

        if (g_strcmp0(kind, "snapshot-remove") != 0 && g_strcmp0(kind, "snapshot-prune") != 0)
                return FALSE;
        for (guint i = 0; kept && i < json_array_get_length(kept); i++) {
                g_autofree char *why = reasons_of(json_array_get_object_element(kept, i));

                output_words(cli, "%s stays: %s\n", json_text(json_array_get_object_element(kept, i), "name"),
                             why);
        }
        for (guint i = 0; i < n; i++)
                output_words(cli, "%s %s\n", json_text(json_array_get_object_element(removed, i), "name"),
                             dry ? "would go" : "is removed");
        output_words(cli, "%s: %u restore point%s %s\n", json_text(o, "vm"), n, n == 1 ? "" : "s",
                     dry ? "would go" : "removed");
        if (json_number(o, "left_in_store") > 0)
                output_words(cli,
                             "  the store could not be told of %" G_GINT64_FORMAT
                             " of them yet, which is tried again: %s\n",
                             json_number(o, "left_in_store"),
                             json_text(o, "left_why") ? json_text(o, "left_why") : "there is none now");
        return TRUE;
}

static ExitCode run_remove(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        gboolean detach = FALSE;
        const GOptionEntry entries[] = {
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        if (!command_parse(self, cli, entries, 2, 2, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_string_member(body, "snapshot", argv[2]);
        return remote_ask_for(cli, "/v1/snapshots/remove", body, detach, error);
}

const struct command command_snapshot_remove = {
        .name = "remove",
        .arguments = "VM NAME [OPTION...]",
        .summary =
                "Take a restore point away: from the list, from the store, and what nobody else needs of it",
        .details = "The newest of a disk stays, and what a job needs. Restore points that stand on its "
                   "layers stay "
                   "what they are. Room in the store is given back by 'moult store gc --shared'.",
        .run = run_remove,
};

void snapshot_keep_entries(GOptionEntry *entries, struct snapshot_keep *keep)
{
        const GOptionEntry all[SNAPSHOT_KEEP_OPTIONS] = {
                {"keep-last", 0, 0, G_OPTION_ARG_INT, &keep->n[0], "Keep the newest N", "N"},
                {"keep-hourly", 0, 0, G_OPTION_ARG_INT, &keep->n[1],
                 "The newest of each of the last N hours that have any", "N"},
                {"keep-daily", 0, 0, G_OPTION_ARG_INT, &keep->n[2], "Of each of the last N days", "N"},
                {"keep-weekly", 0, 0, G_OPTION_ARG_INT, &keep->n[3], "Of each of the last N weeks", "N"},
                {"keep-monthly", 0, 0, G_OPTION_ARG_INT, &keep->n[4], "Of each of the last N months", "N"},
        };

        memcpy(entries, all, sizeof all);
}

void snapshot_keep_add(JsonObject *body, const struct snapshot_keep *keep)
{
        static const char *const members[SNAPSHOT_KEEP_OPTIONS] = {"keep_last", "keep_hourly", "keep_daily",
                                                                   "keep_weekly", "keep_monthly"};

        for (guint i = 0; i < SNAPSHOT_KEEP_OPTIONS; i++)
                json_object_set_int_member(body, members[i], keep->n[i]);
}

static ExitCode run_prune(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        struct snapshot_keep keep = {{0}};
        gboolean dry_run = FALSE, detach = FALSE;
        GOptionEntry entries[SNAPSHOT_KEEP_OPTIONS + 3] = {
                {"dry-run", 'n', 0, G_OPTION_ARG_NONE, &dry_run,
                 "Only say what would go, and why the rest stays", NULL},
                {"detach", 0, 0, G_OPTION_ARG_NONE, &detach, "Do not wait; print the job's id", NULL},
                {0},
        };
        JsonObject *body;

        snapshot_keep_entries(entries + 2, &keep);
        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        body = json_object_new();
        json_object_set_string_member(body, "vm", argv[1]);
        json_object_set_boolean_member(body, "dry_run", dry_run);
        snapshot_keep_add(body, &keep);
        return remote_ask_for(cli, "/v1/snapshots/prune", body, detach, error);
}

const struct command command_snapshot_prune = {
        .name = "prune",
        .arguments = "VM --keep-... N [OPTION...]",
        .summary = "Remove restore points that no rule keeps",
        .details =
                "Rules add up; hours, days, weeks (from Monday) and months are those of the calendar, in "
                "moultd's "
                "local time. If there are fewer than N, the oldest stays, too. The newest always stays, and "
                "what a job or a disk needs.",
        .run = run_prune,
};
