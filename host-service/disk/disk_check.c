/* host-service/disk/disk_check.c - whether an image is whole inside, by `qemu-img check`. */
#include <string.h>
#include <unistd.h>

#include "common/error.h"
#include "host-service/disk/die_with_parent.h"
#include "host-service/disk/disk_chain.h"

/* How qemu-img check ends. */
#define CHECK_CORRUPT 2
#define CHECK_LEAKS   3 /* space that is lost, and nothing else */

/* The exit status, or -1 with @error. */
static int run(const char *const *argv, char **ret_said, GCancellable *cancellable, GError **error)
{
        g_autoptr(GSubprocessLauncher) launcher =
                g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_MERGE);
        g_autoptr(GSubprocess) p = NULL;

        g_subprocess_launcher_set_child_setup(launcher, die_with_parent, GINT_TO_POINTER(getpid()), NULL);
        p = g_subprocess_launcher_spawnv(launcher, argv, error);
        if (!p) {
                g_prefix_error(error, "images need qemu-img (package qemu-utils): ");
                return -1;
        }
        if (!g_subprocess_communicate_utf8(p, NULL, cancellable, ret_said, NULL, error)) {
                g_subprocess_force_exit(p);
                return -1;
        }
        return g_subprocess_get_if_exited(p) ? g_subprocess_get_exit_status(p) : CHECK_CORRUPT;
}

/* It may say thousands. Cuts @said. */
static const char *first_line(char *said)
{
        char *line = said ? strtok(g_strstrip(said), "\n") : NULL;

        return line ? line : "nothing";
}

gboolean disk_image_check(const struct disk_image *image, GCancellable *cancellable, GError **error)
{
        g_autofree char *text = disk_chain_text(image, 1, NULL), *said = NULL;
        const char *argv[] = {"qemu-img", "check", "-q", text, NULL};
        int status;

        if (strcmp(image->format, "qcow2") != 0)
                return TRUE;
        status = run(argv, &said, cancellable, error);
        if (status == 0 || status == CHECK_LEAKS)
                return TRUE;
        if (status > 0)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT, "%s is damaged: qemu-img check says: %s",
                            image->path, first_line(said));
        return FALSE;
}
