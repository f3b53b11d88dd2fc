/* tests/unit/test_shm_pack_wire.c - bytes that decoders would take differently are refused before they are
 * decoded. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <glib.h>
#include <string.h>

#include "proto/manifest.pb-c.h"
#include "shm/pack_wire.h"

TestSuite(pack_wire, .timeout = 30);

static void expect(const ProtobufCMessageDescriptor *d, const char *bytes, size_t len, const char *text,
                   int line)
{
        g_autofree char *exact = g_memdup2(bytes, len); /* AddressSanitizer sees a read past the end */
        const char *why = pack_wire_refusal(d, exact, len);

        if (text == NULL)
                cr_expect(eq(ptr, (void *)why, NULL), "line %d: refused: %s", line, why);
        else
                cr_expect(ne(ptr, why != NULL ? strstr(why, text) : NULL, NULL), "line %d: %s", line,
                          why != NULL ? why : "(passed)");
}

#define EXPECT(kind, bytes, text)                                                                            \
        expect(&moult__##kind##__descriptor, bytes, sizeof(bytes) - 1, text, __LINE__)

Test(pack_wire, what_protobuf_leaves_open_and_we_take)
{
        EXPECT(manifest, "", NULL);
        EXPECT(manifest, "\x08\x01\x12\x01n", NULL);
        EXPECT(manifest, "\x12\x01n\x08\x01", NULL); /* any order */
        EXPECT(manifest, "\x08\x00", NULL);          /* zero, said */
        EXPECT(manifest,
               "\x4a\x01"
               "a\x4a\x01"
               "b",
               NULL);
        EXPECT(manifest, "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", NULL); /* 2^64 - 1 */
        EXPECT(blob, "\x28\x01\x28\x02", NULL);                                 /* not packed */
        EXPECT(blob, "\x2a\x03\x01\xac\x02", NULL);                             /* packed */
        EXPECT(blob, "\x2a\x01\x01\x2a\x01\x02", NULL);
        EXPECT(entry, "\x20\xff\xff\xff\xff\x0f", NULL); /* uid 2^32 - 1 */
        EXPECT(manifest, "\x5a\x02\x10\x07", NULL);
}

Test(pack_wire, numbers)
{
        EXPECT(manifest, "\x20\x81\x00", "shortest");
        EXPECT(manifest, "\x20\x80\x00", "shortest");
        EXPECT(manifest, "\xa0\x00\x01", "shortest");  /* a key */
        EXPECT(manifest, "\x12\x81\x00n", "shortest"); /* a length */
        EXPECT(manifest, "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "64 bits");
        EXPECT(manifest, "\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "64 bits");
        EXPECT(manifest, "\x20\xff", "cut off");
        EXPECT(manifest, "\x20", "cut off");
        EXPECT(entry, "\x20\x80\x80\x80\x80\x10", "does not fit"); /* uint32: 2^32 */
        EXPECT(entry, "\x10\x80\x80\x80\x80\x08", "does not fit"); /* enum: 2^31 */
        EXPECT(entry, "\x88\x01\x02", "does not fit");             /* bool: 2 */
        EXPECT(blob, "\x2a\x05\x80\x80\x80\x80\x10", "does not fit");
        EXPECT(blob, "\x2a\x02\x01\x80", "cut off");
}

Test(pack_wire, fields)
{
        EXPECT(manifest, "\x08\x01\x08\x01", "twice");
        EXPECT(manifest, "\x12\x01n\x12\x01n", "twice");
        EXPECT(manifest, "\x5a\x04\x10\x01\x10\x01", "twice"); /* within an entry */
        EXPECT(manifest, "\x98\x06\x01", "does not know");     /* 99 */
        EXPECT(manifest, "\x00\x01", "does not know");         /* 0 */
        EXPECT(manifest, "\x5a\x03\x98\x06\x01", "does not know");
        EXPECT(manifest, "\x88\x80\x80\x80\x80\x01\x01", "does not know"); /* 1 in the low 32 bits */
        EXPECT(manifest, "\x10\x01", "wire type");                         /* a name that is a number */
        EXPECT(manifest, "\x0a\x01\x01", "wire type");                     /* a number that is bytes */
        EXPECT(manifest, "\x0d\x01\x00\x00\x00", "wire type");             /* fixed32 */
        EXPECT(manifest, "\x12\x02n", "longer than");
        EXPECT(manifest, "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01n", "longer than");
        EXPECT(manifest, "\x5a\x02\x0a\x01", "longer than");
}
