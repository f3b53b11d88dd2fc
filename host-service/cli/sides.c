/* host-service/cli/sides.c - what is compared: the words after --from, --to and --golden as trees. */
#include "host-service/cli/sides.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "host-service/cli/command.h"
#include "host-service/release/build_digest.h"

#define VM_PREFIX "vm:"

static enum side_kind kind_of_word(const char *word)
{
        struct stat st;

        if (g_str_has_prefix(word, VM_PREFIX))
                return SIDE_VM;
        if (stat(word, &st) == 0 && S_ISDIR(st.st_mode))
                return SIDE_DIRECTORY;
        return g_str_has_suffix(word, ".deb") ? SIDE_PACKAGES
               : image_word_is(word)          ? SIDE_IMAGE
                                              : SIDE_DIRECTORY;
}

gboolean side_kind_of(const char *option, char **words, enum side_kind *ret, GError **error)
{
        enum side_kind kind = kind_of_word(words[0]);

        for (unsigned i = 0; words[i]; i++) {
                struct stat st;

                if (kind_of_word(words[i]) != kind || (i > 0 && kind != SIDE_PACKAGES))
                        return command_usage_error(error,
                                                   "%s is one directory, one image, one VM (vm:NAME), or any "
                                                   "number of .deb packages",
                                                   option);
                if (kind == SIDE_VM || kind == SIDE_IMAGE)
                        continue;
                if (stat(words[i], &st) < 0)
                        return moult_error_errno(error, errno, "%s %s", option, words[i]);
                if (kind == SIDE_DIRECTORY && !S_ISDIR(st.st_mode)) {
                        g_set_error(
                                error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                                "%s %s is neither a directory nor a .deb package, nor is it called as images "
                                "are (.qcow2, .raw, .img, or qcow2:%s)",
                                option, words[i], words[i]);
                        return FALSE;
                }
        }
        *ret = kind;
        return TRUE;
}

void side_clear(struct side *s)
{
        g_clear_pointer(&s->image, image_tree_free);
        g_clear_pointer(&s->files, vm_files_free);
        image_name_clear(&s->name);
}

void side_open_vm(Side *s, Cli *cli, const char *vm, Progress *progress)
{
        s->files = vm_files_new(cli, vm, progress);
        s->asker = vm_files_asker(s->files);
}

/* ---- images ---- */

struct opening {
        Side *side;
        const struct image_name *backing;
        GError *error;
};

static gpointer open_image(gpointer data)
{
        struct opening *o = data;

        o->side->image = image_tree_open(&o->side->name, o->backing, &o->error);
        return NULL;
}

gboolean sides_open(Side *old_side, Side *new_side, GError **error)
{
        struct opening opening[] = {{old_side, NULL, NULL}, {new_side, &old_side->name, NULL}};
        GThread *threads[2] = {NULL, NULL};
        gboolean ok = TRUE;

        for (unsigned i = 0; ok && i < 2; i++)
                if (opening[i].side && opening[i].side->kind == SIDE_IMAGE)
                        ok = image_name_parse(opening[i].side->word, &opening[i].side->name, error);
        if (!ok)
                return FALSE;
        if (old_side->kind != SIDE_IMAGE)
                opening[1].backing = NULL;
        for (unsigned i = 0; i < 2; i++)
                if (opening[i].side && opening[i].side->kind == SIDE_IMAGE)
                        threads[i] = g_thread_new("image", open_image, &opening[i]);
        for (unsigned i = 0; i < 2; i++) {
                if (threads[i])
                        g_thread_join(threads[i]);
                if (opening[i].error && ok) {
                        g_propagate_error(error, opening[i].error);
                        ok = FALSE;
                } else {
                        g_clear_error(&opening[i].error);
                }
        }
        return ok;
}

/* ---- trees ---- */

static gboolean hash_all(BuildTree *base, GCancellable *cancellable, GError **error)
{
        g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(guint));

        for (guint i = 0; i < build_tree_count(base); i++)
                if (S_ISREG(build_tree_node(base, i)->mode) && build_tree_node(base, i)->leader == i)
                        g_array_append_val(all, i);
        return build_digest_run(base, all, 0, NULL, NULL, cancellable, error);
}

static BuildTree *read_directory(const Side *s, const struct side_options *o, GCancellable *cancellable,
                                 GError **error)
{
        const struct build_tree_options options = {
                .exclude = o->exclude,
                .exclude_xattr = o->exclude_xattr,
                .owner_root = o->owner_root,
                .per_vm = o->per_vm,
                .skip_sockets = true,
        };
        g_autoptr(BuildTree) t = build_tree_scan(s->word, &options, cancellable, error);

        return t && (!o->hash || hash_all(t, cancellable, error)) ? g_steal_pointer(&t) : NULL;
}

BuildTree *side_read(const Side *s, const BuildTree *base, const struct side_options *o,
                     GCancellable *cancellable, GError **error)
{
        const struct agent_tree_options options = {
                .name = s->kind == SIDE_VM ? vm_files_vm(s->files) : s->word,
                .per_vm = o->per_vm,
                .exclude = o->exclude,
                .exclude_xattr = o->exclude_xattr,
                .owner_root = o->owner_root,
                .hash = o->hash,
                .names_only = !base && !o->hash,
        };

        if (s->kind == SIDE_DIRECTORY)
                return read_directory(s, o, cancellable, error);
        return agent_tree_read(base, s->kind == SIDE_VM ? &s->asker : image_tree_asker(s->image), &options,
                               cancellable, error);
}
