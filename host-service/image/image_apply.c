/* host-service/image/image_apply.c - a release put into an image while no machine runs from it. */
#include "host-service/image/image_apply.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fault.h"
#include "host-service/image/image.h"
#include "host-service/image/image_copy.h"
#include "host-service/image/image_tree.h"

#define PACK  "/release.moult"
#define TRUST "/trust"

void image_apply_report_clear(struct image_apply_report *r)
{
        g_clear_pointer(&r->system, g_free);
        g_clear_pointer(&r->plan, g_free);
}

static gboolean under_way(const struct image_apply_options *o, const char *what, GCancellable *cancellable,
                          GError **error)
{
        if (o->progress)
                o->progress(what, o->user);
        return !g_cancellable_set_error_if_cancelled(cancellable, error);
}

/* ---- what the engine needs beside the image ---- */

static gboolean put_keys(Image *i, const char *trust_dir, GError **error)
{
        g_autoptr(GDir) d = g_dir_open(trust_dir, 0, error);
        const char *name;

        while (d && (name = g_dir_read_name(d))) {
                g_autofree char *local = g_build_filename(trust_dir, name, NULL);
                g_autofree char *there = g_strconcat(TRUST "/", name, NULL);

                if (g_str_has_suffix(name, ".pub") && !image_put_beside(i, local, there, 0444, error))
                        return FALSE;
        }
        return d != NULL;
}

static Image *open_with_engine(const struct image_apply_options *o, const struct image_name *name,
                               gboolean writable, GError **error)
{
        struct image_options options = {
                .writable = writable, .try_out = !writable, .beside = TRUE, .shown = o->image->path};
        g_autoptr(Image) i = NULL;
        struct stat st;

        if (stat(o->pack, &st) < 0) {
                moult_error_errno(error, errno, "opening the release %s", o->pack);
                return NULL;
        }
        options.beside_bytes = (guint64)st.st_size;
        if (!(i = image_open(name, &options, error)) || !image_mount(i, error) ||
            !image_make_beside(i, TRUST, error) || !put_keys(i, o->trust_dir, error) ||
            !image_put_beside(i, o->pack, PACK, 0444, error))
                return NULL;
        return g_steal_pointer(&i);
}

/* ---- the engine ---- */

/* Runs `moult-agent COMMAND`; its last line has the numbers. */
static gboolean run_engine(Image *i, const struct image_apply_options *o, const char *command,
                           char **ret_text, struct image_apply_report *r, GError **error)
{
        const char *argv[12] = {IMAGE_AGENT, command,    "--root", IMAGE_BESIDE, "--trust",
                                TRUST,       "--inside", PACK,     NULL};
        unsigned n = 8;

        if (g_str_equal(command, "apply"))
                argv[n++] = "--quiet";
        if (o->allow_drift)
                argv[n++] = "--allow-drift";
        g_autofree char *text = image_run(i, argv, error);
        if (!text)
                return FALSE;
        g_strchomp(text);
        char *last = strrchr(text, '\n');
        last = last ? last + 1 : text;
        if (sscanf(last, "%u changed, %u equal", &r->changed, &r->equal) != 2) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                            "the engine beside %s said something that is not understood", o->image->path);
                return FALSE;
        }
        if (ret_text) {
                *last = '\0';
                *ret_text = g_steal_pointer(&text);
        }
        return TRUE;
}

/* Read from the disk again: every entry must be there as the release has it. */
static gboolean verify(Image *i, const struct image_apply_options *o, GError **error)
{
        struct image_apply_report after = {0};
        g_autofree char *plan = NULL;

        if (!image_mount_again(i, error) || !run_engine(i, o, "plan", &plan, &after, error))
                return FALSE;
        if (after.changed == 0)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_CORRUPT,
                    "%s: %u entries of the release are not in the image after it was applied: %s",
                    o->image->path, after.changed, plan);
        return FALSE;
}

/* What cannot be written in a guest is merged over at each boot, which is nothing that an image holds. */
static gboolean check_plan(Image *i, const struct image_apply_options *o, GError **error)
{
        struct image_apply_report before = {0};
        g_autofree char *plan = NULL;

        if (!run_engine(i, o, "plan", &plan, &before, error))
                return FALSE;
        char *merged = strstr(plan, "  merged: ");
        if (!merged)
                return TRUE;
        *strchrnul(merged, '\n') = '\0';
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "%s: files of the release lie on a file system that cannot be written in the image (%s): "
                    "make "
                    "that part of the image anew; nothing was changed",
                    o->image->path, merged + strlen("  merged: "));
        return FALSE;
}

static void take_system(Image *i, struct image_apply_report *r)
{
        const struct image_system *s = image_system(i);

        r->system = g_strdup(*s->product ? s->product : s->distro);
}

static gboolean plan_only(const struct image_apply_options *o, GCancellable *cancellable,
                          struct image_apply_report *r, GError **error)
{
        g_autoptr(Image) i = NULL;

        if (!under_way(o, "opening", cancellable, error) ||
            !(i = open_with_engine(o, o->image, /* writable= */ FALSE, error)) ||
            !run_engine(i, o, "plan", &r->plan, r, error))
                return FALSE;
        take_system(i, r);
        return TRUE;
}

static gboolean apply_to(const struct image_apply_options *o, const struct image_name *copy,
                         GCancellable *cancellable, struct image_apply_report *r, GError **error)
{
        g_autoptr(Image) i = NULL;

        if (!under_way(o, "opening", cancellable, error) ||
            !(i = open_with_engine(o, copy, /* writable= */ TRUE, error)) ||
            !under_way(o, "applying", cancellable, error) || !check_plan(i, o, error) ||
            !run_engine(i, o, "apply", NULL, r, error))
                return FALSE;
        fault_point("image-applied");
        if (!under_way(o, "verifying", cancellable, error) || !verify(i, o, error))
                return FALSE;
        take_system(i, r);
        return image_finish(i, error);
}

static gboolean apply(const struct image_apply_options *o, GCancellable *cancellable,
                      struct image_apply_report *r, GError **error)
{
        g_autoptr(ImageCopy) copy = NULL;

        if (!image_file_check(o->image, NULL, /* write= */ !o->output, error) ||
            !under_way(o, "copying", cancellable, error) ||
            !(copy = image_copy_new(o->image, o->output ? o->output : o->image->path, cancellable, error)))
                return FALSE;
        return apply_to(o, image_copy_name(copy), cancellable, r, error) &&
               image_file_check(image_copy_name(copy), NULL, TRUE, error) &&
               under_way(o, "replacing", cancellable, error) && image_copy_publish(copy, o->replace, error);
}

gboolean image_apply(const struct image_apply_options *o, GCancellable *cancellable,
                     struct image_apply_report *ret, GError **error)
{
        struct image_apply_report r = {0};
        gboolean ok = o->dry_run ? plan_only(o, cancellable, &r, error) : apply(o, cancellable, &r, error);

        if (ok) {
                *ret = r;
                return TRUE;
        }
        image_apply_report_clear(&r);
        /* Ctrl-C reaches the virtual machine too, and its end is what we are told then. */
        if (g_cancellable_is_cancelled(cancellable) && error && *error) {
                g_clear_error(error);
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_CANCELLED, "cancelled: %s is as it was",
                            o->image->path);
        }
        return FALSE;
}
