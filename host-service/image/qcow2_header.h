/* host-service/image/qcow2_header.h - what the first bytes of a qcow2 image say, read without QEMU.
 *
 * A header is whoever's who wrote the image. It may name other files of this machine (a backing file, a data
 * file), and QEMU would open them; so it is judged before QEMU sees it. Source of the layout: QEMU,
 * docs/interop/qcow2.txt. */
#pragma once

#include <glib.h>

#define QCOW2_HEADER_BYTES 104u  /* as many as are looked at; version 2 has 72 */
#define QCOW2_NAME_BYTES   1023u /* the longest name of a backing file */

struct qcow2_header {
        guint32 version;
        guint64 size; /* of the disk, bytes */
        guint32 cluster_bits;
        guint64 backing_offset; /* 0: none */
        guint32 backing_length;
        guint32 snapshots; /* internal ones */
        gboolean encrypted, data_file, dirty, corrupt;
        gboolean unknown; /* incompatible features that are not known here */
};

/* The bytes begin as a qcow2 image does. */
gboolean qcow2_header_is(const guint8 *bytes, gsize len);
/* NULL and @ret filled, or why it is none that can be used ("is ...", for after the image's name). */
const char *qcow2_header_parse(const guint8 *bytes, gsize len, struct qcow2_header *ret);
/* Why an image with this header is not opened, or NULL. A backing file is the caller's to judge. @write: it
 * is to be changed. Pure. */
const char *qcow2_header_refusal(const struct qcow2_header *h, gboolean write);
