/* guest-agent/upgrade/requirements.c - is this release for this machine? */
#include "guest-agent/upgrade/requirements.h"

#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/error.h"
#include "common/fd.h"
#include "common/fs_beneath.h"
#include "proto/message.h"

#define OS_RELEASE_MAX 65536u

char *os_release_value(const char *text, const char *key)
{
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        gsize len = strlen(key);
        char *value = NULL;
        for (guint i = 0; lines[i] != NULL; i++) {
                const char *line = g_strstrip(lines[i]);
                if (strncmp(line, key, len) != 0 || line[len] != '=')
                        continue;
                g_free(value); /* the last one counts, as in a shell */
                value = g_shell_unquote(line + len + 1, NULL);
                if (value == NULL)
                        value = g_strdup(line + len + 1);
        }
        return value;
}

char *requirements_refusal(const Manifest *m, const char *os_release, const char *machine)
{
        for (size_t i = 0; i < m->n_requires; i++) {
                g_autofree char *key = message_string(m->requires[i] -> key),
                                *want = message_string(m->requires[i] -> value);
                g_autofree char *have =
                        g_str_equal(key, "ARCH") ? g_strdup(machine) : os_release_value(os_release, key);
                if (have == NULL)
                        return g_strdup_printf(
                                "it is for %s=%s, which this machine's os-release does not say", key, want);
                if (!g_str_equal(have, want))
                        return g_strdup_printf("it is for %s=%s, this machine has %s=%s", key, want, key,
                                               have);
        }
        return NULL;
}

static char *read_os_release(int root_fd)
{
        static const char *const paths[] = {"etc/os-release", "usr/lib/os-release"};
        for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
                char buf[OS_RELEASE_MAX];
                scoped_fd int fd = fs_beneath_open(root_fd, paths[i], O_RDONLY | O_NONBLOCK, 0, NULL);
                ssize_t n = fd >= 0 ? pread(fd, buf, sizeof buf, 0) : -1;
                if (n >= 0)
                        return g_strndup(buf, (gsize)n);
        }
        return g_strdup("");
}

gboolean requirements_check(const Manifest *m, int root_fd, GError **error)
{
        if (m->n_requires == 0)
                return TRUE;
        struct utsname u;
        if (uname(&u) < 0)
                u.machine[0] = '\0';
        g_autofree char *text = read_os_release(root_fd);
        g_autofree char *why = requirements_refusal(m, text, u.machine);
        if (why == NULL)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "this release is not for this machine: %s", why);
        return FALSE;
}
