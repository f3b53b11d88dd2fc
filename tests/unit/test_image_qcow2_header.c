/* tests/unit/test_image_qcow2_header.c - what a hostile qcow2 header may say, and what of it is refused. */
#include "host-service/image/qcow2_header.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(image_qcow2_header, .timeout = 60);

static void put32(guint8 *bytes, gsize at, guint32 v)
{
        v = GUINT32_TO_BE(v);
        memcpy(bytes + at, &v, sizeof v);
}

static void put64(guint8 *bytes, gsize at, guint64 v)
{
        v = GUINT64_TO_BE(v);
        memcpy(bytes + at, &v, sizeof v);
}

/* A disk of 64 MiB, version 3, alone. */
static void good(guint8 bytes[static QCOW2_HEADER_BYTES])
{
        memset(bytes, 0, QCOW2_HEADER_BYTES);
        put32(bytes, 0, 0x514649fb);
        put32(bytes, 4, 3);
        put32(bytes, 20, 16);
        put64(bytes, 24, 64u << 20);
        put32(bytes, 100, 104);
}

static const char *judge(const guint8 *bytes, gsize len, gboolean write)
{
        struct qcow2_header h;
        const char *why = qcow2_header_parse(bytes, len, &h);

        return why ? why : qcow2_header_refusal(&h, write);
}

#define REFUSED(word, bytes, len, write)                                                                     \
        do {                                                                                                 \
                const char *why_ = judge(bytes, len, write);                                                 \
                cr_expect(why_ != NULL && strstr(why_, word) != NULL, "%s: %s", word,                        \
                          why_ ? why_ : "taken");                                                            \
        } while (0)

Test(image_qcow2_header, a_plain_image_is_taken)
{
        guint8 b[QCOW2_HEADER_BYTES];
        struct qcow2_header h;

        good(b);
        cr_assert(eq(ptr, (void *)qcow2_header_parse(b, sizeof b, &h), NULL));
        cr_expect(eq(u64, h.size, 64u << 20));
        cr_expect(eq(u64, h.backing_offset, 0));
        cr_expect(eq(ptr, (void *)qcow2_header_refusal(&h, TRUE), NULL));
        put32(b, 4, 2);
        cr_expect(eq(ptr, (void *)judge(b, 72, TRUE), NULL));
}

Test(image_qcow2_header, what_leads_elsewhere_is_refused)
{
        guint8 b[QCOW2_HEADER_BYTES];

        good(b);
        put64(b, 72, 4);
        REFUSED("in another file", b, sizeof b, FALSE);
        /* The compression's kind and subclusters are known, the next bit is not; nor is the last. */
        good(b);
        put64(b, 72, 8 | 16);
        cr_expect(eq(ptr, (void *)judge(b, sizeof b, TRUE), NULL));
        put64(b, 72, 32);
        REFUSED("not known here", b, sizeof b, FALSE);
        put64(b, 72, 1ull << 63);
        REFUSED("not known here", b, sizeof b, FALSE);
        good(b);
        put32(b, 32, 2);
        REFUSED("encrypted", b, sizeof b, FALSE);
}

Test(image_qcow2_header, what_is_not_whole_is_refused)
{
        guint8 b[QCOW2_HEADER_BYTES];

        good(b);
        put64(b, 72, 1);
        REFUSED("not closed properly", b, sizeof b, FALSE);
        put64(b, 72, 2);
        REFUSED("corrupt", b, sizeof b, FALSE);
        good(b);
        REFUSED("cut off", b, 71, FALSE);
        REFUSED("cut off", b, 103, FALSE);
        put32(b, 4, 4);
        REFUSED("version", b, sizeof b, FALSE);
        put32(b, 0, 0);
        REFUSED("no qcow2", b, sizeof b, FALSE);
        REFUSED("no qcow2", b, 3, FALSE);
}

Test(image_qcow2_header, snapshots_matter_only_where_it_is_changed)
{
        guint8 b[QCOW2_HEADER_BYTES];

        good(b);
        put32(b, 60, 1);
        cr_expect(eq(ptr, (void *)judge(b, sizeof b, FALSE), NULL));
        REFUSED("snapshots", b, sizeof b, TRUE);
}

Test(image_qcow2_header, the_name_of_a_backing_file_lies_in_the_first_cluster)
{
        guint8 b[QCOW2_HEADER_BYTES];
        struct qcow2_header h;

        good(b);
        put64(b, 8, 65536 - 10);
        put32(b, 16, 10);
        cr_assert(eq(ptr, (void *)qcow2_header_parse(b, sizeof b, &h), NULL));
        cr_expect(eq(u64, h.backing_offset, 65526));
        put32(b, 16, 11);
        REFUSED("backing file", b, sizeof b, FALSE);
        put32(b, 16, 0);
        REFUSED("backing file", b, sizeof b, FALSE);
        put32(b, 16, 1024);
        REFUSED("backing file", b, sizeof b, FALSE);
        put64(b, 8, G_MAXUINT64);
        put32(b, 16, 1);
        REFUSED("backing file", b, sizeof b, FALSE);
        good(b);
        put32(b, 20, 64);
        REFUSED("cluster size", b, sizeof b, FALSE);
        put32(b, 20, 8);
        REFUSED("cluster size", b, sizeof b, FALSE);
}
