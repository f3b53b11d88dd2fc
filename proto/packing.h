/* proto/packing.h - a frame's payload, made smaller with zstd where that pays (docs/protocol.md, section 1).
 *
 * Each payload by itself: nothing is kept between two, so an idle session costs no memory for it, and a frame
 * that is lost takes no other with it. What a peer can make us unpack is bounded by what it sends:
 * packing_limit(). */
#pragma once

#include <glib.h>

/* What @stored packed bytes may become at most. */
gsize packing_limit(gsize stored);
enum packing_effort {
        PACKING_SMALL, /* bytes on the wire are what is dear: lists, releases */
        PACKING_QUICK, /* the sender's CPU is: what a guest tells of its own files while it works */
};
/* One zstd frame, or NULL: it would not be smaller by a sixteenth, or be above what the other side unpacks.
 */
GBytes *packing_pack(const void *payload, gsize len, enum packing_effort effort);
/* The payload, or NULL: not exactly one frame that says its size, too large for what it is, or damaged. */
GBytes *packing_unpack(const void *stored, gsize len);
