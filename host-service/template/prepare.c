/* host-service/template/prepare.c - a fitting, applied to an image. */
#include "host-service/template/prepare.h"

#include <string.h>

#include "common/error.h"
#include "host-service/image/image.h"
#include "host-service/image/image_copy.h"

/* Of a file that is compared: the agent is the largest. */
#define READ_MAX (256u << 20)

void prepare_result_clear(struct prepare_result *r)
{
        g_clear_pointer(&r->items, g_ptr_array_unref);
        g_clear_pointer(&r->product, g_free);
        g_clear_pointer(&r->agent, g_free);
}

/* ---- the view ---- */

static gboolean view_exists(const char *path, gpointer user)
{
        return image_exists(user, path);
}

static GBytes *view_read(const char *path, gpointer user)
{
        return image_is_file(user, path) ? image_read(user, path, READ_MAX, NULL) : NULL;
}

static char *view_link(const char *path, gpointer user)
{
        return image_read_link(user, path, NULL);
}

/* ---- doing ---- */

static gboolean make_parent(Image *i, const char *path, GError **error)
{
        g_autofree char *parent = g_path_get_dirname(path);

        return image_make_directory(i, parent, 0755, error);
}

static gboolean run(Image *i, const struct fitting_item *item, GError **error)
{
        g_autofree char *out = image_run(i, (const char *const *)item->argv, error);

        return out != NULL;
}

static gboolean apply_one(Image *i, const struct fitting_item *item, GError **error)
{
        gsize len;
        const void *data;

        switch (item->kind) {
        case FITTING_WRITE:
                data = g_bytes_get_data(item->data, &len);
                return make_parent(i, item->path, error) &&
                       image_write(i, item->path, data, len, item->mode, error);
        case FITTING_LINK:
                return make_parent(i, item->path, error) && image_symlink(i, item->link, item->path, error);
        case FITTING_DIRECTORY:
                return image_make_directory(i, item->path, item->mode, error);
        case FITTING_REMOVE:
                return image_remove(i, item->path, error);
        default:
                return run(i, item, error);
        }
}

static gboolean apply(Image *i, const GPtrArray *items, GError **error)
{
        for (guint n = 0; n < items->len; n++) {
                const struct fitting_item *item = items->pdata[n];

                if ((item->state == FITTING_NEW || item->state == FITTING_CHANGED) &&
                    !apply_one(i, item, error))
                        return FALSE;
        }
        return TRUE;
}

/* A dynamic program without its libraries, or one for another machine, would only be seen in the clones. */
static gboolean try_agent(Image *i, struct prepare_result *r, GError **error)
{
        const char *const argv[] = {PAYLOAD_AGENT, "version", NULL};
        char *said = image_run(i, argv, error);

        if (said && g_str_has_prefix(said, "moult-agent ")) {
                r->agent = g_strchomp(said);
                return TRUE;
        }
        if (said)
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED, "%s in it says \"%s\"", PAYLOAD_AGENT,
                            said);
        g_free(said);
        g_prefix_error(
                error,
                "the agent does not run in this image (the static one, moult-agent-static_*.tar.xz, needs no "
                "libraries); the image is as before: ");
        return FALSE;
}

static gboolean look(Image *i, const GPtrArray *payload, const struct template_settings *settings,
                     struct prepare_result *r, GError **error)
{
        const struct template_view view = {view_exists, view_read, view_link, i};

        r->product = g_strdup(image_system(i)->product);
        r->init = fitting_init(&view);
        r->items = fitting_plan(payload, r->init, settings, &view, error);
        return r->items != NULL;
}

static gboolean prepare(const struct image_name *image, const GPtrArray *payload,
                        const struct template_settings *settings, struct prepare_result *r, GError **error)
{
        const struct image_options options = {.writable = TRUE};
        g_autoptr(ImageCopy) copy = image_file_check(image, NULL, /* write= */ TRUE, error)
                                            ? image_copy_new(image, image->path, NULL, error)
                                            : NULL;
        g_autoptr(Image) i = copy ? image_open(image_copy_name(copy), &options, error) : NULL;

        if (!i || !image_mount(i, error) || !look(i, payload, settings, r, error))
                return FALSE;
        if (!fitting_changes(r->items))
                return TRUE;
        if (!apply(i, r->items, error) || !try_agent(i, r, error) || !image_finish(i, error) ||
            !image_copy_publish(copy, /* replace= */ TRUE, error))
                return FALSE;
        r->changed = TRUE;
        return TRUE;
}

static gboolean preview(const struct image_name *image, const GPtrArray *payload,
                        const struct template_settings *settings, struct prepare_result *r, GError **error)
{
        const struct image_options options = {.writable = FALSE};
        g_autoptr(Image) i = image_open(image, &options, error);

        return i && image_mount(i, error) && look(i, payload, settings, r, error);
}

gboolean template_prepare(const struct image_name *image, const GPtrArray *payload,
                          const struct template_settings *settings, gboolean dry_run,
                          struct prepare_result *ret, GError **error)
{
        struct prepare_result r = {0};
        gboolean ok = (dry_run ? preview : prepare)(image, payload, settings, &r, error);

        if (ok)
                *ret = r;
        else
                prepare_result_clear(&r);
        return ok;
}
