/* tests/unit/test_disk_helper_disk_message.c - what moultd asks moult-disks arrives as it was meant, and
 * nothing else is taken for it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/disk-helper/disk_message.h"

TestSuite(disk_message, .timeout = 10);

#define ID_1 "01HF7YBKBWB2NZVZDMR1TRA8XA"
#define ID_2 "01HF7YBKBWB2NZVZDMR1TRA8XB"
#define TOP  "d.qcow2.moult-" ID_1 "-0.layer"
#define NEXT "d.qcow2.moult-" ID_2 "-0.layer"

static LayerLinks links(const char *dir, const char *disk, const char *top, const char *next)
{
        return (LayerLinks){.dir = (char *)dir,
                            .well_known = (char *)disk,
                            .top = (char *)top,
                            .next = (char *)next,
                            .below = (char *)"/images/golden",
                            .size = 12345};
}

static gboolean read_back(const LayerLinks *l, int operation, LayerLinks *ret, GError **error)
{
        g_autoptr(GBytes) packet = disk_request_write(l, (enum layer_operation)operation);
        enum layer_operation got;

        if (!disk_request_read(packet, ret, &got, error))
                return FALSE;
        cr_expect(eq(int, (int)got, operation));
        return TRUE;
}

Test(disk_message, a_request_arrives_as_it_was_sent)
{
        for (int operation = 0; operation < LAYER_OPERATIONS; operation++) {
                LayerLinks l = links("/vms/a b\xff", "d.qcow2", TOP, NEXT), got = {0};

                cr_assert(read_back(&l, operation, &got, NULL));
                cr_expect(eq(str, got.dir, "/vms/a b\xff"), "paths are bytes");
                cr_expect(eq(str, got.well_known, "d.qcow2"));
                cr_expect(eq(str, got.top, TOP));
                cr_expect(eq(str, got.next, NEXT));
                cr_expect(eq(str, got.below, "/images/golden"));
                cr_expect(eq(u64, got.size, 12345));
                cr_expect(eq(int, got.dir_fd, -1));
                disk_request_clear(&got);
        }
}

Test(disk_message, names_that_are_not_those_of_a_disk_and_its_layers_are_refused)
{
        static const struct {
                const char *dir, *disk, *top, *next;
                int operation;
        } cases[] = {
                {"vms", "d.qcow2", TOP, NEXT, LAYER_LOOK},
                {"", "d.qcow2", TOP, NEXT, LAYER_LOOK},
                {"/vms", "", TOP, NEXT, LAYER_LOOK},
                {"/vms", ".", TOP, NEXT, LAYER_LOOK},
                {"/vms", "..", TOP, NEXT, LAYER_LOOK},
                {"/vms", "a/d.qcow2", "a/" TOP, "a/" NEXT, LAYER_LOOK},
                {"/vms", "/d.qcow2", TOP, NEXT, LAYER_LOOK},
                {"/vms", "d.qcow2", "d.qcow2", NEXT, LAYER_REMOVE_NEXT},
                {"/vms", "d.qcow2", TOP, "d.qcow2", LAYER_REMOVE_NEXT},
                {"/vms", "d.qcow2", TOP, "passwd", LAYER_REMOVE_NEXT},
                {"/vms", "d.qcow2", TOP, "../" NEXT, LAYER_REMOVE_NEXT},
                {"/vms", "d.qcow2", "e" TOP, NEXT, LAYER_NAME_TOP},
                {"/vms", "d.qcow2", TOP, TOP, LAYER_PLACE_NEXT},
                {"/vms", TOP, TOP ".moult-" ID_1 "-0.layer", TOP ".moult-" ID_2 "-0.layer", LAYER_LOOK},
                {"/vms", "d.moult-placing", "d.moult-placing.moult-" ID_1 "-0.layer",
                 "d.moult-placing.moult-" ID_2 "-0.layer", LAYER_LOOK},
                {"/vms", "d.qcow2", TOP, NEXT, LAYER_OPERATIONS},
                {"/vms", "d.qcow2", TOP, NEXT, 255},
        };

        for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
                LayerLinks l = links(cases[i].dir, cases[i].disk, cases[i].top, cases[i].next), got = {0};
                g_autoptr(GError) error = NULL;

                cr_expect(not(read_back(&l, cases[i].operation, &got, &error)), "case %zu", i);
                cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_REFUSED), "case %zu", i);
                cr_expect(got.dir == NULL, "nothing is left of it");
        }
}

Test(disk_message, another_version_is_told_from_noise)
{
        static const guint8 newer[] = {2, 'x', 0}, noise[] = {DISK_PROTOCOL, 9, 1, 0xfe};
        g_autofree guint8 *large = g_malloc0(DISK_PACKET_MAX + 1);
        LayerLinks l = links("/vms", "d.qcow2", TOP, NEXT), got;
        g_autoptr(GBytes) packet = disk_request_write(&l, LAYER_LOOK);
        enum layer_operation operation;
        const struct {
                const void *bytes;
                gsize len;
                MoultError code;
        } cases[] = {
                {newer, sizeof newer, MOULT_ERROR_UNSUPPORTED},
                {noise, sizeof noise, MOULT_ERROR_MALFORMED},
                {"", 0, MOULT_ERROR_MALFORMED},
                {large, DISK_PACKET_MAX + 1, MOULT_ERROR_MALFORMED},
                {g_bytes_get_data(packet, NULL), g_bytes_get_size(packet) - 1, MOULT_ERROR_MALFORMED},
        };

        large[0] = DISK_PROTOCOL;
        for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GBytes) bytes = g_bytes_new(cases[i].bytes, cases[i].len);
                g_autoptr(GError) error = NULL;

                cr_expect(not(disk_request_read(bytes, &got, &operation, &error)), "case %zu", i);
                cr_expect(g_error_matches(error, MOULT_ERROR, (gint)cases[i].code), "case %zu: %s", i,
                          error->message);
                g_clear_error(&error);
                cr_expect(not(disk_answer_read(bytes, NULL, &error)), "case %zu", i);
        }
}

Test(disk_message, an_answer_says_what_was_found_or_why_not)
{
        struct layer_look look = {WELL_KNOWN_OTHER, TRUE, FALSE, IMAGE_WRITTEN, IMAGE_READ, 1234567890123},
                          got;
        g_autoptr(GError) failed =
                g_error_new(MOULT_ERROR, MOULT_ERROR_NO_SPACE, "no room in /vms/\xff%s", ""),
                          error = NULL;
        g_autoptr(GBytes) found = disk_answer_write(&look, NULL), not_done = disk_answer_write(NULL, failed);

        cr_assert(disk_answer_read(found, &got, NULL));
        cr_expect(eq(int, got.well_known, WELL_KNOWN_OTHER));
        cr_expect(eq(int, got.has_top, TRUE));
        cr_expect(eq(int, got.has_next, FALSE));
        cr_expect(eq(int, got.disk_use, IMAGE_WRITTEN));
        cr_expect(eq(int, got.next_use, IMAGE_READ));
        cr_expect(eq(i64, got.changed_ns, 1234567890123));
        cr_expect(not(disk_answer_read(not_done, &got, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_NO_SPACE));
        cr_expect(g_str_has_prefix(error->message, "no room in /vms/"));
        cr_expect(g_utf8_validate(error->message, -1, NULL));
}

Test(disk_message, a_text_without_end_is_cut)
{
        g_autofree char *text = g_strnfill(100000, 'x');
        g_autoptr(GError) failed = g_error_new_literal(MOULT_ERROR, MOULT_ERROR_IO, text), error = NULL;
        g_autoptr(GBytes) answer = disk_answer_write(NULL, failed);

        cr_expect(le(sz, g_bytes_get_size(answer), (gsize)DISK_PACKET_MAX));
        cr_expect(not(disk_answer_read(answer, NULL, &error)));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_IO));
}
