/* host-service/cli/store_result.c - findings of `moult store verify`, and what `moult store gc` took. */
#include "host-service/cli/store_result.h"

#include <string.h>

#include "host-service/cli/output.h"
#include "host-service/cli/text.h"

#define SNAPSHOTS_NAMED 8 /* that one finding affects */

/* "web-1 (is on it), web-2 (being pushed to)"; owned. NULL: nobody. */
static char *users_words(JsonArray *users)
{
        static const struct {
                const char *use, *words;
        } uses[] = {
                {"push", "being pushed to"},     {"on", "is on it"},
                {"back", "may roll back to it"}, {"window", "may map it"},
                {"newest", "among the newest"},
        };
        g_autoptr(GString) s = g_string_new(NULL);

        for (guint i = 0; users && i < json_array_get_length(users); i++) {
                JsonObject *u = json_array_get_object_element(users, i);
                const char *vm = json_text(u, "vm"), *use = json_text(u, "use"), *words = use;

                for (guint k = 0; k < G_N_ELEMENTS(uses); k++)
                        if (use && !strcmp(use, uses[k].use))
                                words = uses[k].words;
                if (vm)
                        g_string_append_printf(s, "%s%s (%s)", s->len ? ", " : "", vm, words);
                else
                        g_string_append_printf(s, "%s%s", s->len ? ", " : "", words);
        }
        return s->len ? g_string_free(g_steal_pointer(&s), FALSE) : NULL;
}

/* "web-1 nightly, web-1 weekly and 3 more"; owned. NULL: none. */
static char *snapshots_words(JsonArray *snapshots)
{
        guint n = snapshots ? json_array_get_length(snapshots) : 0;
        g_autoptr(GString) s = g_string_new(NULL);

        for (guint i = 0; i < MIN(n, SNAPSHOTS_NAMED); i++) {
                JsonObject *o = json_array_get_object_element(snapshots, i);

                g_string_append_printf(s, "%s%s %s", i ? ", " : "", json_text(o, "vm"), json_text(o, "name"));
        }
        if (n > SNAPSHOTS_NAMED)
                g_string_append_printf(s, " and %u more", n - SNAPSHOTS_NAMED);
        return s->len ? g_string_free(g_steal_pointer(&s), FALSE) : NULL;
}

void finding_print(Cli *cli, JsonObject *f)
{
        const char *release = json_text(f, "release"), *version = json_text(f, "version"),
                   *file = json_text(f, "file");
        g_autofree char *text = text_safe_lines(json_text(f, "text"));
        g_autofree char *vms = users_words(json_list(f, "vms")),
                        *snapshots = snapshots_words(json_list(f, "snapshots"));

        if (release)
                output_words(cli, "%s %s: %s: %s\n", release, version ? version : "", json_text(f, "kind"),
                             text);
        else
                output_words(cli, "%s%s%s\n", json_text(f, "kind"), ": ", text);
        if (file)
                output_words(cli, "    file:    %s\n", file);
        if (vms || snapshots)
                output_words(cli, "    affects: %s\n", vms ? vms : snapshots);
        output_words(cli, "    to do:   %s\n", json_text(f, "action"));
}

static void print_verify(Cli *cli, JsonObject *o)
{
        JsonArray *findings = json_list(o, "result.findings");
        guint n = findings ? json_array_get_length(findings) : 0, bad = 0;
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "result.bytes"), 0));

        for (guint i = 0; i < n; i++) {
                JsonObject *f = json_array_get_object_element(findings, i);

                bad += !json_flag(f, "harmless");
                finding_print(cli, f);
        }
        output_words(cli, "%" G_GINT64_FORMAT " releases looked at (%" G_GINT64_FORMAT " files, %s): ",
                     json_number(o, "result.releases"), json_number(o, "result.files"), bytes);
        if (bad)
                output_words(cli, "%u finding%s, see above\n", bad, bad == 1 ? "" : "s");
        else
                output_words(cli, "%s\n", n ? "whole, with left-over files" : "everything is whole");
}

static void print_verify_shared(Cli *cli, JsonObject *o)
{
        JsonArray *findings = json_list(o, "result.findings");
        guint n = findings ? json_array_get_length(findings) : 0;
        gint64 bad = n + json_number(o, "result.more"), unnamed = json_number(o, "result.unnamed");
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "result.bytes"), 0));

        for (guint i = 0; i < n; i++)
                finding_print(cli, json_array_get_object_element(findings, i));
        if (bad > n)
                output_words(cli, "... and %" G_GINT64_FORMAT " more of the kind\n", bad - n);
        if (unnamed > 0)
                output_words(cli,
                             "%" G_GINT64_FORMAT
                             " objects that nothing names: of a push or an upload under way, "
                             "or of one that did not end\n",
                             unnamed);
        output_words(cli,
                     "%" G_GINT64_FORMAT " releases and %" G_GINT64_FORMAT
                     " snapshots in %s looked at (%" G_GINT64_FORMAT " layers, %" G_GINT64_FORMAT
                     " chunks, %s): ",
                     json_number(o, "result.releases"), json_number(o, "result.snapshots"),
                     json_text(o, "result.store"), json_number(o, "result.layers"),
                     json_number(o, "result.chunks"), bytes);
        if (bad)
                output_words(cli, "%" G_GINT64_FORMAT " finding%s, see above\n", bad, bad == 1 ? "" : "s");
        else
                output_words(cli, "everything is whole\n");
}

static void print_gc(Cli *cli, JsonObject *o)
{
        JsonArray *removed = json_list(o, "result.removed"), *kept = json_list(o, "result.kept"),
                  *left = json_list(o, "result.left_over");
        gboolean dry = json_flag(o, "result.dry_run");
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "result.bytes"), 0));

        for (guint i = 0; kept && i < json_array_get_length(kept); i++) {
                JsonObject *r = json_array_get_object_element(kept, i);
                g_autofree char *why = users_words(json_list(r, "why"));

                output_words(cli, "%s %s stays: %s\n", json_text(r, "release"), json_text(r, "version"), why);
        }
        for (guint i = 0; removed && i < json_array_get_length(removed); i++) {
                JsonObject *r = json_array_get_object_element(removed, i);

                output_words(cli, "%s %s %s: nobody needs it\n", json_text(r, "release"),
                             json_text(r, "version"), dry ? "would go" : "is removed");
        }
        for (guint i = 0; left && i < json_array_get_length(left); i++) {
                g_autofree char *file = text_safe_lines(json_array_get_string_element(left, i));

                output_words(cli, "%s %s: no release has this file\n", file, dry ? "would go" : "is removed");
        }
        output_words(cli, "%s %s\n", bytes, dry ? "would be free" : "of packs are free");
}

static void print_gc_shared(Cli *cli, JsonObject *o)
{
        JsonArray *objects = json_list(o, "result.objects");
        gboolean dry = json_flag(o, "result.dry_run");
        gint64 removed = json_number(o, "result.removed"), young = json_number(o, "result.young"),
               listed = objects ? json_array_get_length(objects) : 0;
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "result.bytes"), 0)),
                        *young_bytes = text_bytes((uint64_t)MAX(json_number(o, "result.young_bytes"), 0));

        for (gint64 i = 0; i < listed; i++) {
                g_autofree char *key = text_safe_lines(json_array_get_string_element(objects, (guint)i));

                output_words(cli, "%s %s: nothing names it\n", key, dry ? "would go" : "is removed");
        }
        if (removed > listed)
                output_words(cli, "... and %" G_GINT64_FORMAT " more\n", removed - listed);
        if (young > 0)
                output_words(cli,
                             "%" G_GINT64_FORMAT " more (%s) that nothing names stay, because they are "
                             "young: a push may be under way\n",
                             young, young_bytes);
        output_words(cli,
                     "%s: %" G_GINT64_FORMAT " chunks of %" G_GINT64_FORMAT " releases and %" G_GINT64_FORMAT
                     " snapshots stay; %" G_GINT64_FORMAT " (%s) %s\n",
                     json_text(o, "result.store"), json_number(o, "result.named"),
                     json_number(o, "result.releases"), json_number(o, "result.snapshots"), removed, bytes,
                     dry ? "would go" : "are removed");
}

static void print_push(Cli *cli, JsonObject *o)
{
        g_autofree char *bytes = text_bytes((uint64_t)MAX(json_number(o, "result.moved_bytes"), 0));

        output_words(cli, "%s %s is in %s (%s%" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " chunks sent, %s)\n",
                     json_text(o, "result.release"), json_text(o, "result.version"),
                     json_text(o, "result.store"), json_flag(o, "result.already_there") ? "it was; " : "",
                     json_number(o, "result.moved"), json_number(o, "result.chunks"), bytes);
}

/* What an import ends with. */
static void print_pull(Cli *cli, JsonObject *o)
{
        output_words(cli, "%s %s is %s moultd\n", json_text(o, "result.release.name"),
                     json_text(o, "result.release.version"),
                     json_flag(o, "result.already_there") ? "already in" : "now in");
}

gboolean store_result_print(Cli *cli, JsonObject *operation)
{
        const char *kind = json_text(operation, "kind");

        if (!kind || !json_child(operation, "result"))
                return FALSE;
        if (!strcmp(kind, "store-verify"))
                print_verify(cli, operation);
        else if (!strcmp(kind, "store-verify-shared"))
                print_verify_shared(cli, operation);
        else if (!strcmp(kind, "store-gc-shared"))
                print_gc_shared(cli, operation);
        else if (!strcmp(kind, "store-gc"))
                print_gc(cli, operation);
        else if (g_strcmp0(json_text(operation, "state"), "succeeded") != 0)
                return FALSE; /* the reason says it all */
        else if (!strcmp(kind, "store-push"))
                print_push(cli, operation);
        else if (!strcmp(kind, "store-pull"))
                print_pull(cli, operation);
        else
                return FALSE;
        return TRUE;
}
