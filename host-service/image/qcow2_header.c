/* host-service/image/qcow2_header.c - what the first bytes of a qcow2 image say, read without QEMU. */
#include "host-service/image/qcow2_header.h"

#include <string.h>

#define MAGIC           0x514649fbu /* "QFI\xfb" */
#define VERSION_2_BYTES 72u

/* Incompatible features of version 3. */
#define FEATURE_DIRTY     (1u << 0)
#define FEATURE_CORRUPT   (1u << 1)
#define FEATURE_DATA_FILE (1u << 2)
/* These, the compression's kind (3) and subclusters (4). */
#define FEATURES_KNOWN ((1u << 5) - 1)

static guint32 be32(const guint8 *bytes, gsize at)
{
        guint32 v;

        memcpy(&v, bytes + at, sizeof v);
        return GUINT32_FROM_BE(v);
}

static guint64 be64(const guint8 *bytes, gsize at)
{
        guint64 v;

        memcpy(&v, bytes + at, sizeof v);
        return GUINT64_FROM_BE(v);
}

gboolean qcow2_header_is(const guint8 *bytes, gsize len)
{
        return len >= sizeof(guint32) && be32(bytes, 0) == MAGIC;
}

const char *qcow2_header_parse(const guint8 *bytes, gsize len, struct qcow2_header *ret)
{
        struct qcow2_header h = {0};

        if (!qcow2_header_is(bytes, len))
                return "is no qcow2 image";
        if (len < VERSION_2_BYTES)
                return "is damaged: its qcow2 header is cut off";
        h.version = be32(bytes, 4);
        if (h.version != 2 && h.version != 3)
                return "is of a version of qcow2 that is not known here";
        if (h.version == 3 && len < QCOW2_HEADER_BYTES)
                return "is damaged: its qcow2 header is cut off";
        h.backing_offset = be64(bytes, 8);
        h.backing_length = be32(bytes, 16);
        h.cluster_bits = be32(bytes, 20);
        h.size = be64(bytes, 24);
        h.encrypted = be32(bytes, 32) != 0;
        h.snapshots = be32(bytes, 60);
        if (h.version == 3) {
                guint64 features = be64(bytes, 72);

                h.dirty = (features & FEATURE_DIRTY) != 0;
                h.corrupt = (features & FEATURE_CORRUPT) != 0;
                h.data_file = (features & FEATURE_DATA_FILE) != 0;
                h.unknown = (features & ~(guint64)FEATURES_KNOWN) != 0;
        }
        if (h.cluster_bits < 9 || h.cluster_bits > 21)
                return "is damaged: its qcow2 header has an impossible cluster size";
        if (h.backing_offset != 0 && (h.backing_length == 0 || h.backing_length > QCOW2_NAME_BYTES ||
                                      h.backing_offset > (1u << h.cluster_bits) - h.backing_length))
                return "is damaged: its qcow2 header has an impossible name of a backing file";
        *ret = h;
        return NULL;
}

const char *qcow2_header_refusal(const struct qcow2_header *h, gboolean write)
{
        if (h->encrypted)
                return "is encrypted: decrypt it first (qemu-img convert with its secret)";
        if (h->data_file)
                return "keeps its data in another file, which its header names: make it one file first "
                       "(qemu-img convert -O qcow2)";
        if (h->unknown)
                return "has features of qcow2 that are not known here: make an image without them first "
                       "(qemu-img convert -O qcow2)";
        if (h->corrupt)
                return "is marked as corrupt: look at it with qemu-img check";
        if (h->dirty)
                return "was not closed properly: if no VM uses it, repair it with qemu-img check -r all";
        if (write && h->snapshots > 0)
                return "has internal snapshots, which would keep the old files: delete them first (qemu-img "
                       "snapshot -d), or write to a copy without them (qemu-img convert -O qcow2)";
        return NULL;
}
