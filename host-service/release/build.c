/* host-service/release/build.c - from a directory tree (and the one before it) to a signed release pack. */
#include "host-service/release/build.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "host-service/release/build_digest.h"
#include "host-service/release/build_entry.h"
#include "proto/limits.h"
#include "shm/pack_writer.h"

typedef struct {
        const struct release_build_options *options;
        release_build_observer observer;
        gpointer user;
        GCancellable *cancellable;
        BuildTree *new_tree, *old_tree; /* owned; old_tree may be NULL */
        GArray *plan;                   /* struct build_item */
        GPtrArray *left_out;            /* struct build_left_out */
        PerVmList *builtin;             /* owned; where the options name no list */
        GMutex lock;                    /* protects progress */
        struct release_build_progress progress;
        uint64_t read_of_item; /* of progress.bytes_done */
} Build;

static void build_clear(Build *b)
{
        build_tree_free(b->new_tree);
        build_tree_free(b->old_tree);
        g_clear_pointer(&b->plan, g_array_unref);
        g_clear_pointer(&b->left_out, g_ptr_array_unref);
        per_vm_list_free(b->builtin);
        g_mutex_clear(&b->lock);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Build, build_clear)

static void change_free(gpointer data)
{
        struct release_build_change *c = data;

        g_free(c->path);
        g_free(c);
}

void release_build_report_clear(struct release_build_report *r)
{
        g_clear_pointer(&r->listing, g_ptr_array_unref);
        g_clear_pointer(&r->left_out, g_ptr_array_unref);
        g_clear_pointer(&r->warnings, g_ptr_array_unref);
}

static void begin_phase(Build *b, enum release_build_phase phase, uint64_t bytes, uint32_t items)
{
        g_mutex_lock(&b->lock);
        b->progress = (struct release_build_progress){phase, 0, bytes, 0, items};
        if (b->observer)
                b->observer(&b->progress, b->user);
        g_mutex_unlock(&b->lock);
}

static void one_done(uint64_t size_bytes, gpointer user)
{
        Build *b = user;

        g_mutex_lock(&b->lock);
        b->progress.bytes_done += size_bytes;
        b->progress.items_done++;
        if (b->observer)
                b->observer(&b->progress, b->user);
        g_mutex_unlock(&b->lock);
}

/* Bytes that the writer has read of the entry under way; what is left of its size, holes, comes with its end.
 */
static void some_read(uint64_t bytes, gpointer user)
{
        Build *b = user;

        g_mutex_lock(&b->lock);
        b->progress.bytes_done += bytes;
        b->read_of_item += bytes;
        if (b->observer)
                b->observer(&b->progress, b->user);
        g_mutex_unlock(&b->lock);
}

static const PerVmList *per_vm_of(Build *b)
{
        if (!b->options->per_vm && !b->builtin)
                b->builtin = per_vm_list_builtin();
        return b->options->per_vm ? b->options->per_vm : b->builtin;
}

static gboolean scan(Build *b, GError **error)
{
        const struct release_build_options *o = b->options;
        const struct build_tree_options tree_options = {
                .exclude = o->exclude,
                .exclude_xattr = o->exclude_xattr,
                .owner_root = o->owner_root,
                .per_vm = o->capture ? per_vm_of(b) : NULL,
                .skip_sockets = o->capture,
        };

        begin_phase(b, RELEASE_BUILD_SCAN, 0, 0);
        b->new_tree = build_tree_scan(o->new_dir, &tree_options, b->cancellable, error);
        if (!b->new_tree)
                return FALSE;
        if (!o->old_dir)
                return TRUE;
        b->old_tree = build_tree_scan(o->old_dir, &tree_options, b->cancellable, error);
        return b->old_tree != NULL;
}

static uint64_t wanted_bytes(const BuildTree *t, const GArray *wanted)
{
        uint64_t sum = 0;

        for (guint i = 0; i < wanted->len; i++)
                sum += build_tree_node(t, g_array_index(wanted, guint, i))->size;
        return sum;
}

static gboolean hash(Build *b, GError **error)
{
        g_autoptr(GArray) new_wanted = g_array_new(FALSE, FALSE, sizeof(guint));
        g_autoptr(GArray) old_wanted = g_array_new(FALSE, FALSE, sizeof(guint));

        if (!b->old_tree)
                return TRUE;
        build_plan_wanted(b->new_tree, b->old_tree, new_wanted, old_wanted);
        begin_phase(b, RELEASE_BUILD_HASH,
                    wanted_bytes(b->new_tree, new_wanted) + wanted_bytes(b->old_tree, old_wanted),
                    new_wanted->len + old_wanted->len);
        return build_digest_run(b->old_tree, old_wanted, b->options->threads, one_done, b, b->cancellable,
                                error) &&
               build_digest_run(b->new_tree, new_wanted, b->options->threads, one_done, b, b->cancellable,
                                error);
}

/* All refused paths in one message: whoever fixes them should not need a run for each. */
static gboolean check_per_vm(const Build *b, GError **error)
{
        g_autoptr(GString) text = g_string_new(NULL);
        guint refused = b->left_out->len;

        if (refused == 0 || b->options->capture)
                return TRUE;
        for (guint i = 0; i < MIN(refused, 20); i++) {
                const struct build_left_out *l = g_ptr_array_index(b->left_out, i);

                g_string_append_printf(text, "\n  /%s %s", l->path, l->reason);
        }
        if (refused > 20)
                g_string_append_printf(text, "\n  and %u more", refused - 20);
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                "%u %s in %s belong to one machine and must not be spread:%s\nLeave them out with --exclude, "
                "or say --allow-per-vm PATH for each that every VM shall really get",
                refused, refused == 1 ? "path" : "paths", b->options->new_dir, text->str);
        return FALSE;
}

static void filter(Build *b)
{
        const struct release_build_options *o = b->options;
        const struct build_filter f = {
                .per_vm = per_vm_of(b),
                .allow_per_vm = o->allow_per_vm,
                .include = o->include,
                .leave_out = o->capture,
                .keep_directories = o->packages,
        };

        b->left_out = build_left_out_new();
        build_filter_apply(&f, b->new_tree, b->old_tree, b->plan, b->left_out);
}

static gboolean plan(Build *b, GError **error)
{
        b->plan = build_plan_make(b->new_tree, b->old_tree, b->options->mtime_counts);
        filter(b);
        if (!check_per_vm(b, error))
                return FALSE;
        if (b->plan->len == 0 && b->old_tree) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            b->left_out->len > 0
                                    ? "%s and %s differ in what belongs to one machine only: there is "
                                      "nothing to release"
                            : b->options->include
                                    ? "%s and %s do not differ in what --include names: there is nothing "
                                      "to release"
                                    : "%s and %s do not differ: there is nothing to release",
                            b->options->new_dir, b->options->old_dir);
                return FALSE;
        }
        if (b->plan->len == 0) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "%s is empty: there is nothing to release", b->options->new_dir);
                return FALSE;
        }
        if (b->plan->len > LIMIT_ENTRIES) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the release would have %u entries, more than the %u that one may have",
                            b->plan->len, LIMIT_ENTRIES);
                return FALSE;
        }
        return TRUE;
}

static void report_item(const Build *b, const struct build_item *item, struct release_build_report *r)
{
        const struct tree_node *n =
                item->new_index >= 0 ? build_tree_node(b->new_tree, (unsigned)item->new_index) : NULL;
        const struct tree_node *o =
                item->old_index >= 0 ? build_tree_node(b->old_tree, (unsigned)item->old_index) : NULL;
        struct release_build_change *c = g_new0(struct release_build_change, 1);

        c->change = item->change;
        c->path = g_strdup(build_item_path(b->new_tree, b->old_tree, item));
        g_ptr_array_add(r->listing, c);
        r->changes[item->change]++;
        r->entries++;
        r->unchanged -= n != NULL;
        if (o && o->leader == item->old_index)
                r->bytes_before += o->size;
        if (n && n->leader == item->new_index)
                r->bytes_after += n->size;

        if (n && o && S_ISDIR(n->mode) && S_ISLNK(o->mode))
                g_ptr_array_add(
                        r->warnings,
                        g_strdup_printf("/%s was a symbolic link and is now a directory: where a guest has "
                                        "a link to a directory there, the agent keeps it, as dpkg does",
                                        n->path));
        if (n && o && S_ISDIR(o->mode) && !S_ISDIR(n->mode))
                g_ptr_array_add(
                        r->warnings,
                        g_strdup_printf("/%s was a directory and is now something else: a guest whose "
                                        "directory holds more than the old tree's refuses the release",
                                        n->path));
}

static void report_init(const Build *b, struct release_build_report *r)
{
        *r = (struct release_build_report){.unchanged = build_tree_count(b->new_tree)};
        r->listing = g_ptr_array_new_with_free_func(change_free);
        r->left_out = g_ptr_array_ref(b->left_out);
        r->warnings = g_ptr_array_new_with_free_func(g_free);
        for (guint i = 0; i < b->plan->len; i++)
                report_item(b, &g_array_index(b->plan, struct build_item, i), r);
        if (b->options->n_keys == 0)
                g_ptr_array_add(r->warnings,
                                g_strdup("the release is not signed: every agent will refuse it; "
                                         "build it again with --sign KEY"));
}

static gboolean add_hooks(const struct release_build_options *o, PackWriter *w, GError **error)
{
        for (unsigned i = 0; i < o->n_hooks; i++) {
                const struct release_hook *h = &o->hooks[i];
                g_autoptr(GBytes) script = fd_read_file_at(AT_FDCWD, h->path, LIMIT_HOOK_SCRIPT, error);

                if (!script) {
                        g_prefix_error(error, "hook %s: ", h->path);
                        return FALSE;
                }
                gsize len;
                const char *text = g_bytes_get_data(script, &len);
                if (len < 3 || text[0] != '#' || text[1] != '!') {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                    "hook %s: a hook is a script that begins with a line like #!/bin/sh",
                                    h->path);
                        return FALSE;
                }
                if (!pack_writer_add_hook(w, h->stage, h->name, script, h->timeout_ms, error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean add_list_head(const struct release_build_options *o, PackWriter *w, GError **error)
{
        for (unsigned i = 0; i < o->n_requirements; i++)
                if (!pack_writer_add_requirement(w, o->requirements[i].key, o->requirements[i].value, error))
                        return FALSE;
        for (unsigned i = 0; o->restart_units && o->restart_units[i]; i++)
                if (!pack_writer_add_restart_unit(w, o->restart_units[i], error))
                        return FALSE;
        return add_hooks(o, w, error);
}

static bool has_content(const Build *b, const struct build_item *item)
{
        if (item->new_index < 0)
                return false;
        const struct tree_node *n = build_tree_node(b->new_tree, (unsigned)item->new_index);
        return S_ISREG(n->mode) && n->leader == item->new_index;
}

static void expect_contents(const Build *b)
{
        g_autoptr(GArray) indices = g_array_new(FALSE, FALSE, sizeof(guint));

        for (guint i = 0; i < b->plan->len; i++) {
                const struct build_item *item = &g_array_index(b->plan, struct build_item, i);
                guint index = (guint)item->new_index;

                if (has_content(b, item))
                        g_array_append_val(indices, index);
        }
        build_tree_expect(b->new_tree, indices);
}

static gboolean write_item(Build *b, PackWriter *w, const struct build_item *item, GError **error)
{
        scoped_fd int fd = -1;
        BuildEntry e;

        if (has_content(b, item)) {
                fd = build_tree_open(b->new_tree, (unsigned)item->new_index, error);
                if (fd < 0)
                        return FALSE;
        }
        build_entry_init(&e, b->new_tree, b->old_tree, item, b->options->delivery);
        gboolean ok = pack_writer_add_entry(w, build_entry_message(&e), fd, b->cancellable, error);
        build_entry_clear(&e);
        if (!ok) {
                g_prefix_error(error, "putting /%s into the release: ",
                               build_item_path(b->new_tree, b->old_tree, item));
                return FALSE;
        }
        return fd < 0 || build_tree_still(b->new_tree, (unsigned)item->new_index, fd, error);
}

static gboolean add_deltas(Build *b, PackWriter *w, BuildTree *base, struct release_build_report *r,
                           GError **error)
{
        const struct build_delta_options o = {
                .level = b->options->delta_level != 0 ? b->options->delta_level : BUILD_DELTA_LEVEL,
                .threads = b->options->threads,
                .observer = some_read,
                .user = b,
        };

        begin_phase(b, RELEASE_BUILD_DELTA, r->bytes_after, b->plan->len);
        return build_delta_add(w, b->new_tree, base, b->plan, &o, b->cancellable, &r->deltas, error);
}

static gboolean add_all_deltas(Build *b, PackWriter *w, struct release_build_report *r, GError **error)
{
        const struct release_build_options *o = b->options;
        const struct build_tree_options tree_options = {.skip_sockets = true};

        if (o->no_deltas)
                return TRUE;
        if (b->old_tree && !add_deltas(b, w, b->old_tree, r, error))
                return FALSE;
        for (unsigned i = 0; o->delta_dirs && o->delta_dirs[i]; i++) {
                g_autoptr(BuildTree) base =
                        build_tree_scan(o->delta_dirs[i], &tree_options, b->cancellable, error);

                if (!base || !add_deltas(b, w, base, r, error))
                        return FALSE;
        }
        return TRUE;
}

static gboolean write_pack(Build *b, struct release_build_report *r, GError **error)
{
        const struct release_build_options *o = b->options;
        const struct pack_writer_options writer_options = {
                .name = o->name,
                .version = o->version,
                .description = o->description,
                .created_unix_s = o->created_unix_s,
                .security_floor = o->security_floor,
                .zstd_level = o->zstd_level,
                .no_trees = o->no_trees,
        };
        g_autoptr(PackWriter) w = pack_writer_new(o->output, &writer_options, error);

        if (!w || !add_list_head(o, w, error))
                return FALSE;
        pack_writer_set_observer(w, some_read, b);
        begin_phase(b, RELEASE_BUILD_WRITE, r->bytes_after, b->plan->len);
        expect_contents(b);
        for (guint i = 0; i < b->plan->len; i++) {
                const struct build_item *item = &g_array_index(b->plan, struct build_item, i);

                if (g_cancellable_set_error_if_cancelled(b->cancellable, error) ||
                    !write_item(b, w, item, error))
                        return FALSE;
                uint64_t size = has_content(b, item)
                                        ? build_tree_node(b->new_tree, (unsigned)item->new_index)->size
                                        : 0;
                one_done(size - MIN(b->read_of_item, size), b);
                b->read_of_item = 0;
        }
        return add_all_deltas(b, w, r, error) &&
               pack_writer_finish(w, o->keys, o->n_keys, r->manifest_digest, error);
}

static gboolean check_output(const struct release_build_options *o, GError **error)
{
        struct stat st;

        if (lstat(o->output, &st) < 0)
                return errno == ENOENT || moult_error_errno(error, errno, "looking at %s", o->output);
        if (S_ISREG(st.st_mode) && o->replace)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_BUSY,
                    S_ISREG(st.st_mode)
                            ? "%s exists already; choose another name, or say --force to replace it"
                            : "%s exists already and is not a file; choose another name",
                    o->output);
        return FALSE;
}

/* Everything after the trees. */
static gboolean build(Build *b, struct release_build_report *ret, GError **error)
{
        struct release_build_report report = {0};
        struct stat st;

        if (!hash(b, error) || !plan(b, error))
                return FALSE;
        report_init(b, &report);
        if (!write_pack(b, &report, error)) {
                release_build_report_clear(&report);
                return FALSE;
        }
        if (stat(b->options->output, &st) == 0)
                report.pack_bytes = (uint64_t)st.st_size;
        *ret = report;
        return TRUE;
}

gboolean release_build(const struct release_build_options *options, release_build_observer observer,
                       gpointer user, GCancellable *cancellable, struct release_build_report *ret,
                       GError **error)
{
        g_auto(Build)
                b = {.options = options, .observer = observer, .user = user, .cancellable = cancellable};

        g_mutex_init(&b.lock);
        return check_output(options, error) && scan(&b, error) && build(&b, ret, error);
}

gboolean release_build_trees(const struct release_build_options *options, BuildTree *new_tree,
                             BuildTree *old_tree, release_build_observer observer, gpointer user,
                             GCancellable *cancellable, struct release_build_report *ret, GError **error)
{
        g_auto(Build)
                b = {.options = options, .observer = observer, .user = user, .cancellable = cancellable};

        g_mutex_init(&b.lock);
        b.new_tree = new_tree;
        b.old_tree = old_tree;
        return check_output(options, error) && build(&b, ret, error);
}
