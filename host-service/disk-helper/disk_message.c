/* host-service/disk-helper/disk_message.c - requests and answers as packets. */
#include "host-service/disk-helper/disk_message.h"

#include <limits.h>
#include <string.h>

#include "common/error.h"
#include "common/fs_beneath.h"
#include "host-service/snapshot/layer_name.h"

#define REQUEST_TYPE G_VARIANT_TYPE("(yyayayayayayt)")
#define ANSWER_TYPE  G_VARIANT_TYPE("(yysybbyyx)")
#define IMAGES_TYPE  G_VARIANT_TYPE("(yya(ayy)bbt)")
#define END_TYPE     G_VARIANT_TYPE("(yis)")
/* Where a request of files has its operation. */
#define IMAGES   255u
#define TEXT_MAX 8000u

/* NULL with @error: it is no packet of @type. */
static GVariant *unpack(GBytes *packet, const GVariantType *type, GError **error)
{
        g_autoptr(GVariant) v = g_variant_ref_sink(g_variant_new_from_bytes(type, packet, FALSE));
        gsize len;
        const guint8 *version = g_bytes_get_data(packet, &len);

        /* The first byte, whatever else another version has. */
        if (len > 0 && version[0] != DISK_PROTOCOL) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_UNSUPPORTED,
                            "moultd and moult-disks are of different versions (%u here, %u there): restart "
                            "moultd",
                            DISK_PROTOCOL, version[0]);
                return NULL;
        }
        if (len > 0 && len <= DISK_PACKET_MAX && g_variant_is_normal_form(v))
                return g_steal_pointer(&v);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_MALFORMED, "a packet of %zu bytes is none of ours", len);
        return NULL;
}

static GBytes *pack(GVariant *v)
{
        g_autoptr(GVariant) sunk = g_variant_ref_sink(v);

        return g_variant_get_data_as_bytes(sunk);
}

enum disk_request_kind disk_request_kind(GBytes *packet)
{
        gsize len;
        const guint8 *bytes = g_bytes_get_data(packet, &len);

        return len > 1 && bytes[1] == IMAGES ? DISK_REQUEST_IMAGES : DISK_REQUEST_FILES;
}

GBytes *disk_request_write(const LayerLinks *l, enum layer_operation operation)
{
        return pack(g_variant_new("(yy^ay^ay^ay^ay^ayt)", (guchar)DISK_PROTOCOL, (guchar)operation, l->dir,
                                  l->well_known, l->top, l->next, l->below ? l->below : "", l->size));
}

static const char *names_refusal(const LayerLinks *l)
{
        g_autofree char *of = layer_name_base(l->well_known);
        struct layer_name n;

        if (!g_path_is_absolute(l->dir))
                return "the directory has no absolute path";
        if (fs_path_refusal((const guint8 *)l->well_known, strlen(l->well_known)) ||
            strchr(l->well_known, '/'))
                return "the disk's name is no file name";
        if (of || g_str_has_suffix(l->well_known, ".moult-placing"))
                return "the disk's name is one that a layer has";
        if (!layer_name_parse(l->top, l->well_known, &n) || !layer_name_parse(l->next, l->well_known, &n))
                return "a layer's name is not one of that disk's";
        if (l->below && (!g_path_is_absolute(l->below) ||
                         fs_path_refusal((const guint8 *)l->below + 1, strlen(l->below) - 1)))
                return "what the new top stands on has no plain path";
        return g_str_equal(l->top, l->next) ? "both layers have one name" : NULL;
}

gboolean disk_request_read(GBytes *packet, LayerLinks *ret, enum layer_operation *ret_operation,
                           GError **error)
{
        g_autoptr(GVariant) v = unpack(packet, REQUEST_TYPE, error);
        LayerLinks l = {.dir_fd = -1};
        const char *why;
        guchar version, operation;

        if (!v)
                return FALSE;
        g_variant_get(v, "(yy^ay^ay^ay^ay^ayt)", &version, &operation, &l.dir, &l.well_known, &l.top, &l.next,
                      &l.below, &l.size);
        if (*l.below == '\0')
                g_clear_pointer(&l.below, g_free);
        why = operation >= LAYER_OPERATIONS ? "the operation is not known" : names_refusal(&l);
        if (!why) {
                g_autoptr(GBytes) again = disk_request_write(&l, (enum layer_operation)operation);

                if (!g_bytes_equal(again, packet))
                        why = "a name has no one meaning";
        }
        if (!why) {
                *ret = l;
                *ret_operation = (enum layer_operation)operation;
                return TRUE;
        }
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "moult-disks was asked for what it does not do: %s", why);
        disk_request_clear(&l);
        return FALSE;
}

void disk_request_clear(LayerLinks *l)
{
        g_clear_pointer(&l->dir, g_free);
        g_clear_pointer(&l->well_known, g_free);
        g_clear_pointer(&l->top, g_free);
        g_clear_pointer(&l->next, g_free);
        g_clear_pointer(&l->below, g_free);
}

/* Paths are bytes, texts are not; and it ends somewhere. The caller frees. */
static char *text_for_packet(const char *text)
{
        g_autofree char *valid = g_utf8_make_valid(text, -1);

        return g_utf8_substring(valid, 0, MIN(g_utf8_strlen(valid, -1), (glong)TEXT_MAX / 4));
}

GBytes *disk_answer_write(const struct layer_look *look, const GError *failed)
{
        static const struct layer_look none = {0};
        const struct layer_look *l = look ? look : &none;
        g_autofree char *text = text_for_packet(failed ? failed->message : "");
        MoultError code = failed ? moult_error_code(failed) : MOULT_ERROR_UNSPECIFIED;

        return pack(g_variant_new("(yysybbyyx)", (guchar)DISK_PROTOCOL,
                                  (guchar)(failed ? (guint)code + 1 : 0), text, (guchar)l->well_known,
                                  l->has_top, l->has_next, (guchar)l->disk_use, (guchar)l->next_use,
                                  l->changed_ns));
}

static gboolean answer_is_possible(guchar failed, const char *text, guchar well_known, guchar disk_use,
                                   guchar next_use)
{
        return failed <= MOULT_ERROR_MAX && (failed == 0) == (*text == 0) && well_known <= WELL_KNOWN_OTHER &&
               disk_use <= IMAGE_WRITTEN && next_use <= IMAGE_WRITTEN;
}

gboolean disk_answer_read(GBytes *packet, struct layer_look *ret, GError **error)
{
        g_autoptr(GVariant) v = unpack(packet, ANSWER_TYPE, error);
        struct layer_look look = {0};
        guchar version, failed, well_known, disk_use, next_use;
        const char *text;

        if (!v)
                return FALSE;
        g_variant_get(v, "(yy&sybbyyx)", &version, &failed, &text, &well_known, &look.has_top, &look.has_next,
                      &disk_use, &next_use, &look.changed_ns);
        if (!answer_is_possible(failed, text, well_known, disk_use, next_use)) {
                g_set_error_literal(error, MOULT_ERROR, MOULT_ERROR_MALFORMED,
                                    "moult-disks gave an answer that cannot be");
                return FALSE;
        }
        if (failed) {
                g_set_error_literal(error, MOULT_ERROR, failed - 1, text);
                return FALSE;
        }
        look.well_known = (WellKnown)well_known;
        look.disk_use = (enum image_lock)disk_use;
        look.next_use = (enum image_lock)next_use;
        if (ret)
                *ret = look;
        return TRUE;
}

/* ---- images ---- */

static const char *const formats[] = {"qcow2", "raw"};

static guchar format_number(const char *format)
{
        return g_strcmp0(format, formats[1]) == 0 ? 1 : 0;
}

GBytes *disk_images_write(const struct disk_image *chain, guint n, const struct disk_options *options,
                          GError **error)
{
        g_autoptr(GVariantBuilder) list = g_variant_builder_new(G_VARIANT_TYPE("a(ayy)"));
        g_autoptr(GBytes) packet = NULL;

        for (guint i = 0; i < n && i < DISK_CHAIN_MAX; i++)
                g_variant_builder_add(list, "(^ayy)", chain[i].path, format_number(chain[i].format));
        packet = pack(g_variant_new("(yya(ayy)bbt)", (guchar)DISK_PROTOCOL, (guchar)IMAGES, list,
                                    options->writable, options->share_at != NULL, options->size));
        if (n >= 1 && n <= DISK_CHAIN_MAX && g_bytes_get_size(packet) <= DISK_PACKET_MAX)
                return g_steal_pointer(&packet);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "a chain of %u images with these names is too long to ask moult-disks for", n);
        return NULL;
}

static const char *image_refusal(const struct disk_image *image, gboolean writable)
{
        g_autofree char *name = NULL, *of = NULL;

        if (!g_path_is_absolute(image->path) || !g_utf8_validate(image->path, -1, NULL))
                return "an image has no absolute path in UTF-8";
        if (fs_path_refusal((const guint8 *)image->path + 1, strlen(image->path) - 1))
                return "an image's path is no plain one";
        name = g_path_get_basename(image->path);
        of = layer_name_base(name);
        return writable && !of ? "a file that is to be written has no layer's name" : NULL;
}

/* NULL: all is well. */
static const char *read_images(GVariant *list, struct disk_images *ret)
{
        const char *why = NULL;

        ret->n = (guint)MIN(g_variant_n_children(list), DISK_CHAIN_MAX);
        if (ret->n == 0 || g_variant_n_children(list) > DISK_CHAIN_MAX)
                why = "a chain has from 1 to 64 images";
        for (guint i = 0; i < ret->n; i++) {
                guchar format;
                char *path;

                g_variant_get_child(list, i, "(^ayy)", &path, &format);
                ret->chain[i].path = path;
                ret->chain[i].format = formats[MIN(format, G_N_ELEMENTS(formats) - 1)];
                if (!why && format >= G_N_ELEMENTS(formats))
                        why = "an image's format is not known";
                if (!why)
                        why = image_refusal(&ret->chain[i], i == 0 && ret->writable);
        }
        return why;
}

/* A path may hold a NUL in the packet, and ends there for us: what was judged is all that was said. */
static gboolean images_are(const struct disk_images *images, GBytes *packet)
{
        const struct disk_options options = {
                .writable = images->writable, .share_at = images->shared ? "" : NULL, .size = images->size};
        g_autoptr(GBytes) again = disk_images_write(images->chain, images->n, &options, NULL);

        return again && g_bytes_equal(again, packet);
}

gboolean disk_images_read(GBytes *packet, struct disk_images *ret, GError **error)
{
        g_autoptr(GVariant) v = unpack(packet, IMAGES_TYPE, error), list = NULL;
        guchar version, operation;
        const char *why;

        *ret = (struct disk_images){0};
        if (!v)
                return FALSE;
        g_variant_get(v, "(yy@a(ayy)bbt)", &version, &operation, &list, &ret->writable, &ret->shared,
                      &ret->size);
        why = read_images(list, ret);
        if (!why && ret->shared && ret->writable)
                why = "what is written is for one client";
        if (!why && !images_are(ret, packet))
                why = "a path has no one meaning";
        if (!why && operation == IMAGES)
                return TRUE;
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "moult-disks was asked for what it does not do: %s", why ? why : "another operation");
        disk_images_clear(ret);
        return FALSE;
}

void disk_images_clear(struct disk_images *images)
{
        for (guint i = 0; i < images->n; i++)
                g_free((char *)images->chain[i].path);
        images->n = 0;
}

GBytes *disk_end_write(int status, const char *words)
{
        g_autofree char *text = text_for_packet(words);

        return pack(g_variant_new("(yis)", (guchar)DISK_PROTOCOL, (gint32)status, text));
}

gboolean disk_end_read(GBytes *packet, int *ret_status, char **ret_words, GError **error)
{
        g_autoptr(GVariant) v = unpack(packet, END_TYPE, error);
        guchar version;
        gint32 status;

        if (!v)
                return FALSE;
        g_variant_get(v, "(yis)", &version, &status, ret_words);
        *ret_status = status;
        return TRUE;
}
