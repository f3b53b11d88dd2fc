/* host-service/release/per_vm_list.c - which files are one machine's own, by a list that the operator can
 * change.
 *
 * A golden image or a pilot VM holds such files too, so a release that is built from one would give all its
 * siblings the same identity, or take theirs away. */
#include "host-service/release/per_vm_list.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>

#include "common/error.h"
#include "common/fd.h"

#define LIST_BYTES_MAX (1u << 20)

/* The file's bytes, with labels around them. */
__asm__(".section .rodata\n"
        ".global moult_per_vm_begin\n"
        "moult_per_vm_begin:\n"
        ".incbin \"" MOULT_PER_VM_FILE "\"\n"
        ".global moult_per_vm_end\n"
        "moult_per_vm_end:\n"
        ".byte 0\n"
        ".text\n");
extern const char moult_per_vm_begin[], moult_per_vm_end[];

struct rule {
        char *glob;
        char *reason;
        enum per_vm_class class;
        gboolean directory; /* the glob ended with a slash, which was taken off */
};

struct PerVmList {
        GArray *rules;
};

static void rule_clear(gpointer data)
{
        struct rule *r = data;

        g_free(r->glob);
        g_free(r->reason);
}

void per_vm_list_free(PerVmList *l)
{
        if (!l)
                return;
        g_array_unref(l->rules);
        g_free(l);
}

/* NULL, or what is wrong with @line, which is not empty and no comment. */
static const char *parse_line(PerVmList *l, char *line, int *class)
{
        struct rule r = {0};
        size_t len = strcspn(line, " \t");

        if (!strcmp(line, "[identity]") || !strcmp(line, "[noise]")) {
                *class = line[1] == 'i' ? PER_VM_IDENTITY : PER_VM_NOISE;
                return NULL;
        }
        if (*class < 0)
                return "a pattern before the first [identity] or [noise]";
        if (line[0] == '/')
                return "patterns are below the root: without the leading slash";
        /* A class of characters that opens a line would read as a section; nobody needs one. */
        if (line[0] == '[')
                return "no such section: [identity] or [noise]";
        const char *reason = line + len + strspn(line + len, " \t");
        r.directory = line[len - 1] == '/';
        if (r.directory && len == 1)
                return "that would be everything";
        r.glob = g_strndup(line, r.directory ? len - 1 : len);
        r.reason = g_strdup(*reason ? reason : "is on the list of files that belong to one machine");
        r.class = (enum per_vm_class) * class;
        g_array_append_val(l->rules, r);
        return NULL;
}

PerVmList *per_vm_list_parse(const char *text, gsize len, const char *name, GError **error)
{
        g_autoptr(PerVmList) l = g_new0(PerVmList, 1);
        int class = -1;

        l->rules = g_array_new(FALSE, FALSE, sizeof(struct rule));
        g_array_set_clear_func(l->rules, rule_clear);
        if (memchr(text, '\0', len) != NULL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s is not a text file", name);
                return NULL;
        }
        g_autofree char *copy = g_strndup(text, len);
        g_auto(GStrv) lines = g_strsplit(copy, "\n", -1);
        for (guint i = 0; lines[i]; i++) {
                char *line = g_strstrip(lines[i]);
                const char *why = *line && *line != '#' ? parse_line(l, line, &class) : NULL;

                if (why) {
                        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s, line %u: %s", name, i + 1,
                                    why);
                        return NULL;
                }
        }
        return g_steal_pointer(&l);
}

PerVmList *per_vm_list_builtin(void)
{
        PerVmList *l = per_vm_list_parse(moult_per_vm_begin, (gsize)(moult_per_vm_end - moult_per_vm_begin),
                                         "per-vm.list", NULL);

        g_assert(l); /* our own file; a test reads it */
        return l;
}

PerVmList *per_vm_list_load(const char *path, GError **error)
{
        g_autoptr(GError) own = NULL;
        g_autoptr(GBytes) bytes =
                fd_read_file_at(AT_FDCWD, path ? path : PER_VM_LIST_FILE, LIST_BYTES_MAX, &own);
        gsize len;

        if (!bytes && !path && g_error_matches(own, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                return per_vm_list_builtin();
        if (!bytes) {
                g_propagate_prefixed_error(error, g_steal_pointer(&own),
                                           "reading the list of files that belong to one machine: ");
                return NULL;
        }
        const char *text = g_bytes_get_data(bytes, &len);
        return per_vm_list_parse(text, len, path ? path : PER_VM_LIST_FILE, error);
}

gboolean per_vm_glob_matches(const char *glob, const char *path)
{
        return fnmatch(glob, path, 0) == 0;
}

static const struct rule *find(const PerVmList *l, const char *path, gboolean directory)
{
        for (guint i = 0; i < l->rules->len; i++) {
                const struct rule *r = &g_array_index(l->rules, struct rule, i);

                if (r->directory == directory && per_vm_glob_matches(r->glob, path))
                        return r;
        }
        return NULL;
}

GPtrArray *per_vm_list_globs(const PerVmList *l, gboolean directories)
{
        GPtrArray *globs = g_ptr_array_new_with_free_func(g_free);

        for (guint i = 0; l && i < l->rules->len; i++) {
                const struct rule *r = &g_array_index(l->rules, struct rule, i);

                if (r->directory == directories)
                        g_ptr_array_add(globs, g_strdup(r->glob));
        }
        return globs;
}

const char *per_vm_list_reason(const PerVmList *l, const char *path, enum per_vm_class *ret_class)
{
        const struct rule *r = find(l, path, FALSE);

        if (!r)
                return NULL;
        if (ret_class)
                *ret_class = r->class;
        return r->reason;
}

const char *per_vm_list_directory_reason(const PerVmList *l, const char *path)
{
        const struct rule *r = find(l, path, TRUE);

        return r ? r->reason : NULL;
}
