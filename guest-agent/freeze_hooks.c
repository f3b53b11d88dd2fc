/* guest-agent/freeze_hooks.c - the machine's own hooks around a freeze. */
#include "guest-agent/freeze_hooks.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "guest-agent/upgrade/process.h"
#include "proto/limits.h"

#define PRE  "pre-freeze.d"
#define POST "post-thaw.d"

/* ---- which there are ---- */

static gboolean is_left_over(const char *name)
{
        static const char *const endings[] = {"~",        ".bak",    ".dpkg-old", ".dpkg-dist", ".dpkg-new",
                                              ".rpmsave", ".rpmnew", ".rpmorig",  ".swp"};

        if (name[0] == '.')
                return TRUE;
        for (gsize i = 0; i < G_N_ELEMENTS(endings); i++)
                if (g_str_has_suffix(name, endings[i]))
                        return TRUE;
        return FALSE;
}

/* Only root decides what root runs. Tests that are not root's own count as root. */
static gboolean is_safe(const struct stat *st)
{
        return (st->st_uid == 0 || st->st_uid == geteuid()) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static gboolean refuse(GError **error, const char *path)
{
        g_set_error(
                error, MOULT_ERROR, MOULT_ERROR_HOOK,
                "%s is not root's, or others can write it: it is not run, and what it is for would not be "
                "at rest (chown root, chmod go-w)",
                path);
        return FALSE;
}

/* TRUE with *ret_is = FALSE: it is no hook. */
static gboolean look_at(const char *directory, const char *name, gboolean *ret_is, GError **error)
{
        g_autofree char *path = g_build_filename(directory, name, NULL);
        struct stat st;

        *ret_is = FALSE;
        if (is_left_over(name) || stat(path, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111))
                return TRUE;
        if (!is_safe(&st))
                return refuse(error, path);
        *ret_is = TRUE;
        return TRUE;
}

static int by_name(gconstpointer a, gconstpointer b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GStrv freeze_hooks_list(const char *directory, const char *stage, GError **error)
{
        g_autofree char *path = g_build_filename(directory, stage, NULL);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        struct stat st;
        const char *name;

        if (dir && stat(path, &st) == 0 && !is_safe(&st)) {
                refuse(error, path);
                return NULL;
        }
        while (dir && (name = g_dir_read_name(dir))) {
                gboolean is_hook;

                if (!look_at(path, name, &is_hook, error))
                        return NULL;
                if (is_hook)
                        g_ptr_array_add(names, g_strdup(name));
        }
        if (names->len > LIMIT_FREEZE_HOOKS) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_HOOK, "%s has %u hooks; %u are the most", path,
                            names->len, LIMIT_FREEZE_HOOKS);
                return NULL;
        }
        g_ptr_array_sort(names, by_name);
        g_ptr_array_add(names, NULL);
        return (GStrv)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

GStrv freeze_hooks_due(const char *const *post, const char *const *pre, const char *const *begun)
{
        g_autoptr(GPtrArray) due = g_ptr_array_new();

        for (guint i = g_strv_length((GStrv)post); i > 0; i--)
                if (!g_strv_contains(pre, post[i - 1]) || g_strv_contains(begun, post[i - 1]))
                        g_ptr_array_add(due, g_strdup(post[i - 1]));
        g_ptr_array_add(due, NULL);
        return (GStrv)g_ptr_array_free(g_steal_pointer(&due), FALSE);
}

/* ---- running them ---- */

static GStrv environment(const struct freeze_hooks *h, const char *name, const char *stage)
{
        g_autoptr(GString) id = g_string_new(NULL);
        GStrv e = g_new0(char *, 1);

        for (int i = 0; i < 16; i++)
                g_string_append_printf(id, "%02x", h->id[i]);
        e = g_environ_setenv(e, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TRUE);
        e = g_environ_setenv(e, "HOME", "/root", TRUE);
        e = g_environ_setenv(e, "LANG", "C.UTF-8", TRUE);
        e = g_environ_setenv(e, "MOULT_FREEZE_ID", id->str, TRUE);
        e = g_environ_setenv(e, "MOULT_STAGE", stage, TRUE);
        return g_environ_setenv(e, "MOULT_HOOK", name, TRUE);
}

static gboolean run(const struct freeze_hooks *h, const char *where, const char *name, char **ret_output,
                    GError **error)
{
        const char *stage = g_str_equal(where, PRE) ? "freeze" : "thaw";
        g_autofree char *path = g_build_filename(h->directory, where, name, NULL);
        g_auto(GStrv) env = environment(h, name, stage);
        const char *const argv[] = {path, stage, NULL};
        const struct process_request q = {.argv = argv,
                                          .environment = (const char *const *)env,
                                          .script_fd = -1,
                                          .timeout_ms = h->timeout_ms,
                                          .leaves_daemons = TRUE};
        struct process_result r = {0};
        g_autoptr(GError) why = NULL;
        g_autofree char *failure = NULL;

        if (!process_run(&q, &r, &why)) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_HOOK, "the hook %s could not be started: %s",
                            path, why->message);
                return FALSE;
        }
        failure = process_failure(&r, h->timeout_ms);
        if (failure) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_HOOK, "the hook %s failed: %s", path, failure);
                *ret_output = g_steal_pointer(&r.output);
        }
        process_result_clear(&r);
        return failure == NULL;
}

gboolean freeze_hooks_pre(const struct freeze_hooks *h, guint *ret_run, char **ret_hook, char **ret_output,
                          GError **error)
{
        g_auto(GStrv) names = freeze_hooks_list(h->directory, PRE, error);

        *ret_run = 0;
        if (!names)
                return FALSE;
        for (char **name = names; *name; name++) {
                if (!h->begins(*name, h->user)) {
                        g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_CANCELLED,
                                            "it was given up before everything was frozen");
                        return FALSE;
                }
                if (!run(h, PRE, *name, ret_output, error)) {
                        *ret_hook = g_strdup(*name);
                        return FALSE;
                }
                ++*ret_run;
        }
        return TRUE;
}

gboolean freeze_hooks_post(const struct freeze_hooks *h, const char *const *begun, char **ret_hook,
                           char **ret_output, GError **error)
{
        g_auto(GStrv) post = freeze_hooks_list(h->directory, POST, error);
        g_auto(GStrv) pre = post ? freeze_hooks_list(h->directory, PRE, NULL) : NULL;
        g_auto(GStrv) due = NULL;
        gboolean ok = TRUE;

        if (!post)
                return FALSE;
        /* Where the pre-freeze hooks cannot be listed none was begun. */
        due = freeze_hooks_due((const char *const *)post, pre ? (const char *const *)pre : begun, begun);
        for (char **name = due; *name; name++) {
                g_autoptr(GError) why = NULL;
                g_autofree char *output = NULL;

                if (run(h, POST, *name, &output, &why) || !ok)
                        continue;
                ok = FALSE;
                *ret_hook = g_strdup(*name);
                *ret_output = g_steal_pointer(&output);
                g_propagate_error(error, g_steal_pointer(&why));
        }
        return ok;
}
