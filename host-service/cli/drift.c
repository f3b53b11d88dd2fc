/* host-service/cli/drift.c - moult drift: what differs in a VM from its golden image and from its releases.
 */
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "host-service/cli/commands.h"
#include "host-service/cli/drift_release.h"
#include "host-service/cli/output.h"
#include "host-service/cli/sides.h"
#include "host-service/release/build_digest.h"
#include "host-service/release/build_filter.h"

struct drift {
        Cli *cli;
        const char *vm;
        Side vm_side, golden_side;
        BuildTree *live, *golden;
        PerVmList *per_vm;
        DriftReleases *releases;
        GArray *plan; /* struct build_item: against the golden image */
        GPtrArray *left_out, *notes;
        JsonArray *found; /* what is neither the golden image's nor a release's */
        guint released;   /* differs from the golden image, as a release has it */
        GHashTable *differs;
};

static void tell(struct drift *d, const char *change, const char *path, const char *release)
{
        g_autofree char *shown = message_string(message_bytes(path));
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "change", change);
        json_object_set_string_member(o, "path", shown);
        json_object_set_string_member(o, "against", release ? release : "golden image");
        json_array_add_object_element(d->found, o);
}

/* What differs from the golden image: as a release has it, or not. */
static void judge_differences(struct drift *d)
{
        for (guint i = 0; i < d->plan->len; i++) {
                const struct build_item *item = &g_array_index(d->plan, struct build_item, i);
                const char *path = build_item_path(d->live, d->golden, item);
                gboolean as_released;
                const char *release =
                        drift_releases_judge(d->releases, path, d->live, item->new_index, &as_released);

                g_hash_table_add(d->differs, g_strdup(path));
                if (as_released)
                        d->released++;
                else
                        tell(d, build_change_name(item->change), path, release);
        }
}

/* A path that a release has the last word on, and that is as in the golden image: right only if both agree.
 */
static void judge_released(const char *path, gpointer user)
{
        struct drift *d = user;
        gssize index = build_tree_find(d->live, path);
        gboolean as_released;
        const char *release;

        if (g_hash_table_contains(d->differs, path) || per_vm_list_reason(d->per_vm, path, NULL))
                return;
        release = drift_releases_judge(d->releases, path, d->live, index, &as_released);
        if (release && !as_released)
                tell(d, index < 0 ? "missing" : "reverted", path, release);
}

static gboolean compare(struct drift *d, GError **error)
{
        const struct build_filter filter = {.per_vm = d->per_vm, .leave_out = TRUE};
        g_autoptr(GArray) live_wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GArray) golden_wanted = g_array_new(FALSE, FALSE, sizeof(guint));

        build_plan_wanted(d->live, d->golden, live_wanted, golden_wanted);
        if (!build_digest_run(d->golden, golden_wanted, 1, NULL, NULL, d->cli->cancellable, error) ||
            !build_digest_run(d->live, live_wanted, 1, NULL, NULL, d->cli->cancellable, error))
                return FALSE;
        d->plan = build_plan_make(d->live, d->golden, false);
        build_filter_apply(&filter, d->live, d->golden, d->plan, d->left_out);
        judge_differences(d);
        drift_releases_foreach(d->releases, judge_released, d);
        return TRUE;
}

static ExitCode report(struct drift *d, GError **error)
{
        static const struct column columns[] = {
                {"CHANGE", "change", COLUMN_TEXT},
                {"PATH", "path", COLUMN_TEXT},
                {"AGAINST", "against", COLUMN_TEXT},
                {0},
        };
        g_autoptr(JsonNode) list = json_node_init_array(json_node_alloc(), d->found);
        JsonObject *root = json_object_new();
        g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), root);
        guint drifted = json_array_get_length(d->found);

        json_object_set_string_member(root, "vm", d->vm);
        json_object_set_member(root, "drift", json_node_copy(list));
        json_object_set_int_member(root, "released", d->released);
        json_object_set_int_member(root, "per_vm", d->left_out->len);
        json_object_unref(root);
        for (guint i = 0; i < d->notes->len; i++)
                fprintf(d->cli->err, "moult: warning: %s\n", (const char *)g_ptr_array_index(d->notes, i));
        if (!output_machine(d->cli, node)) {
                output_list(d->cli, list, columns, "Nothing has drifted", error);
                output_words(
                        d->cli,
                        "%u differ from the golden image as a release has them, %u belong to this machine\n",
                        d->released, d->left_out->len);
        }
        return drifted > 0 ? EXIT_CODE_REFUSED : EXIT_CODE_OK;
}

static void drift_clear(struct drift *d)
{
        build_tree_free(d->live);
        build_tree_free(d->golden);
        side_clear(&d->vm_side);
        side_clear(&d->golden_side);
        per_vm_list_free(d->per_vm);
        drift_releases_free(d->releases);
        g_clear_pointer(&d->plan, g_array_unref);
        g_clear_pointer(&d->left_out, g_ptr_array_unref);
        g_clear_pointer(&d->notes, g_ptr_array_unref);
        g_clear_pointer(&d->found, json_array_unref);
        g_clear_pointer(&d->differs, g_hash_table_unref);
}

static gboolean golden_open(struct drift *d, const char *golden, GError **error)
{
        char *words[] = {(char *)golden, NULL};

        d->golden_side.word = golden;
        if (!side_kind_of("--golden", words, &d->golden_side.kind, error))
                return FALSE;
        if (d->golden_side.kind == SIDE_DIRECTORY || d->golden_side.kind == SIDE_IMAGE)
                return sides_open(&d->golden_side, NULL, error);
        return command_usage_error(error, "--golden is a directory or an image");
}

static ExitCode look(struct drift *d, const char *golden, const char *const *exclude, gboolean quick,
                     GError **error)
{
        const struct side_options options = {.per_vm = d->per_vm, .exclude = exclude, .hash = !quick};

        side_open_vm(&d->vm_side, d->cli, d->vm, NULL);
        if (!(d->releases = drift_releases_new(d->vm_side.client, d->vm, d->notes, error)) ||
            !golden_open(d, golden, error) ||
            !(d->golden = side_read(&d->golden_side, NULL, &options, d->cli->cancellable, error)) ||
            !(d->live = side_read(&d->vm_side, d->golden, &options, d->cli->cancellable, error)) ||
            !compare(d, error))
                return EXIT_CODE_INTERNAL;
        return report(d, error);
}

static ExitCode run(const struct command *self, Cli *cli, int argc, char **argv, GError **error)
{
        g_autofree char *golden = NULL, *list = NULL;
        g_auto(GStrv) exclude = NULL;
        gboolean quick = FALSE;
        const GOptionEntry entries[] = {
                {"golden", 0, 0, G_OPTION_ARG_FILENAME, &golden,
                 "The tree or the image that the VM was made from", "DIR|IMAGE"},
                {"exclude", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &exclude,
                 "Do not look at what matches: with a '/' the whole path, else the last part (repeatable)",
                 "GLOB"},
                {"per-vm-list", 0, 0, G_OPTION_ARG_FILENAME, &list,
                 "The list of files that belong to one machine (default: " PER_VM_LIST_FILE
                 ", else the one that "
                 "comes with moult)",
                 "FILE"},
                {"quick", 0, 0, G_OPTION_ARG_NONE, &quick,
                 "Do not read files whose size and time are those of the golden image", NULL},
                {0},
        };
        struct drift d = {.cli = cli, .vm_side = {.kind = SIDE_VM}};

        if (!command_parse(self, cli, entries, 1, 1, &argc, &argv, error))
                return EXIT_CODE_OK;
        if (!golden) {
                command_usage_error(error, "'moult drift' needs --golden, a directory or an image");
                return EXIT_CODE_USAGE;
        }
        d.per_vm = per_vm_list_load(list, error);
        if (!d.per_vm)
                return EXIT_CODE_INTERNAL;
        d.vm = argv[1];
        d.left_out = build_left_out_new();
        d.notes = g_ptr_array_new_with_free_func(g_free);
        d.found = json_array_new();
        d.differs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        ExitCode code = look(&d, golden, (const char *const *)exclude, quick, error);
        drift_clear(&d);
        return code;
}

const struct command command_drift = {
        .name = "drift",
        .arguments = "VM --golden DIR|IMAGE",
        .summary = "What differs in a VM from its golden image and from the releases that it has taken",
        .details = "Each file is read and compared. What a committed release of the VM has put there is no "
                   "drift; what differs\n"
                   "from both, or was put back behind a release's back, is. What belongs to one machine is "
                   "left out by the list\n"
                   "that 'moult release capture' uses. Ends with 4 if anything has drifted.",
        .run = run,
};
