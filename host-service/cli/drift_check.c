/* host-service/cli/drift_check.c - what differs in one VM, and whose word it is compared with. */
#include "host-service/cli/drift_check.h"

#include <string.h>

#include "common/error.h"
#include "host-service/cli/drift_release.h"
#include "host-service/cli/output.h"
#include "host-service/release/build_digest.h"
#include "host-service/release/build_filter.h"

struct check {
        const struct drift_against *against;
        struct drift_found *found;
        BuildTree *live;
        DriftReleases *releases;
        GHashTable *differs; /* paths that differ from the golden image */
};

void drift_found_clear(struct drift_found *f)
{
        g_clear_pointer(&f->drift, json_array_unref);
        g_clear_pointer(&f->warnings, g_ptr_array_unref);
}

static void tell(struct check *k, const char *change, const char *path, const char *release)
{
        g_autofree char *shown = message_string(message_bytes(path));
        JsonObject *o = json_object_new();

        json_object_set_string_member(o, "change", change);
        json_object_set_string_member(o, "path", shown);
        json_object_set_string_member(o, "against", release ? release : "golden image");
        json_array_add_object_element(k->found->drift, o);
}

/* What differs from the golden image: as a release has it, or not. */
static void judge_differences(struct check *k, const GArray *plan)
{
        for (guint i = 0; i < plan->len; i++) {
                const struct build_item *item = &g_array_index(plan, struct build_item, i);
                const char *path = build_item_path(k->live, k->against->golden, item);
                gboolean as_released;
                const char *release =
                        drift_releases_judge(k->releases, path, k->live, item->new_index, &as_released);

                g_hash_table_add(k->differs, g_strdup(path));
                if (as_released)
                        k->found->released++;
                else
                        tell(k, build_change_name(item->change), path, release);
        }
}

/* A path that a release has the last word on, and that is as in the golden image: right only if both agree.
 */
static void judge_released(const char *path, gpointer user)
{
        struct check *k = user;
        gssize index = build_tree_find(k->live, path);
        gboolean as_released;
        const char *release;

        if (g_hash_table_contains(k->differs, path) || per_vm_list_reason(k->against->per_vm, path, NULL))
                return;
        release = drift_releases_judge(k->releases, path, k->live, index, &as_released);
        if (release && !as_released)
                tell(k, index < 0 ? "missing" : "reverted", path, release);
}

static gboolean compare(struct check *k, GError **error)
{
        const struct drift_against *a = k->against;
        const struct build_filter filter = {.per_vm = a->per_vm, .leave_out = TRUE};
        g_autoptr(GArray) live_wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GArray) golden_wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GPtrArray) left_out = build_left_out_new();

        build_plan_wanted(k->live, a->golden, live_wanted, golden_wanted);
        if (!build_digest_run(a->golden, golden_wanted, 1, NULL, NULL, a->cli->cancellable, error) ||
            !build_digest_run(k->live, live_wanted, 1, NULL, NULL, a->cli->cancellable, error))
                return FALSE;
        g_autoptr(GArray) plan = build_plan_make(k->live, a->golden, false);
        build_filter_apply(&filter, k->live, a->golden, plan, left_out);
        judge_differences(k, plan);
        drift_releases_foreach(k->releases, judge_released, k);
        k->found->per_vm = left_out->len;
        return TRUE;
}

/* Before anything is read: what changes from here on makes the result outdated. */
static gint64 ask_as_of(Client *c, const char *vm)
{
        g_autofree char *path = client_path("/v1/vms/%s/drift", vm);
        g_autoptr(JsonNode) answer = client_get(c, path, NULL);
        JsonObject *o = answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;

        return o && json_member(o, "as_of") ? json_number(o, "as_of") : -1;
}

gboolean drift_check(const struct drift_against *against, const char *vm, struct drift_found *ret,
                     GError **error)
{
        const struct side_options options = {
                .per_vm = against->per_vm,
                .exclude = against->exclude,
                .hash = !against->quick,
        };
        g_autoptr(GHashTable) differs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_auto(Side) side = {.kind = SIDE_VM};
        struct check k = {.against = against, .found = ret, .differs = differs};

        *ret = (struct drift_found){
                .drift = json_array_new(),
                .warnings = g_ptr_array_new_with_free_func(g_free),
        };
        side_open_vm(&side, against->cli, vm, NULL);
        ret->as_of = ask_as_of(vm_files_client(side.files), vm);
        g_autoptr(DriftReleases) releases =
                drift_releases_new(vm_files_client(side.files), vm, ret->warnings, error);
        g_autoptr(BuildTree) live =
                releases ? side_read(&side, against->golden, &options, against->cli->cancellable, error)
                         : NULL;
        k.releases = releases;
        k.live = live;
        return live && compare(&k, error);
}

void drift_record(Cli *cli, const char *vm, struct drift_found *f)
{
        g_autoptr(Client) c = client_new(cli);
        g_autofree char *path = client_path("/v1/vms/%s/drift", vm);
        g_autoptr(GError) why = NULL;
        JsonObject *body;

        if (f->as_of < 0) {
                g_ptr_array_add(f->warnings,
                                g_strdup("moultd takes no results of checks (it is older than this command, "
                                         "or could not be asked): 'moult fleet' does not show this one"));
                return;
        }
        body = json_object_new();
        json_object_set_int_member(body, "as_of", f->as_of);
        json_object_set_int_member(body, "files", json_array_get_length(f->drift));
        g_autoptr(JsonNode) answer = client_post(c, path, body, NULL, &why);
        if (!answer)
                g_ptr_array_add(
                        f->warnings,
                        g_strdup_printf("the result is not on record, 'moult fleet' does not show it: %s",
                                        why->message));
}
