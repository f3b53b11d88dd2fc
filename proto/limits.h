/* proto/limits.h - every bound on what a peer or a pack may make us hold. One place, so that it can be
 * reviewed. */
#pragma once

#include <stdint.h>

/* Frames */
#define LIMIT_FRAME_PAYLOAD (512u * 1024u) /* bytes of one message */
/* A packed payload unpacks to at most this many times its bytes, and these: a flood costs little more than it
 * sends. */
#define LIMIT_PACKED_RATIO   64u
#define LIMIT_PACKED_FREE    4096u
#define LIMIT_MESSAGE_MEMORY (4u * 1024u * 1024u) /* what unpacking one message may allocate */
#define LIMIT_SEND_QUEUE                                                                                     \
        (8u * 1024u * 1024u) /* bytes waiting for a slow peer before the session is reset                    \
                              */
#define LIMIT_SEND_LOW                                                                                       \
        (2u * 1024u * 1024u)              /* `writable` when the queue falls below; fill to here, then wait */
#define LIMIT_NOISE (16u * 1024u * 1024u) /* bytes skipped while looking for a frame before giving up */

/* Messages */
#define LIMIT_DATA_BYTES        (256u * 1024u)
#define LIMIT_FETCH_BYTES       (1024u * 1024u)
#define LIMIT_FETCHES_IN_FLIGHT 8u
#define LIMIT_PLAN_PAGE         512u
#define LIMIT_TEXT              16384u
#define LIMIT_CAPABILITIES      64u
#define LIMIT_ENDPOINTS         16u
#define LIMIT_SELECTION         256u
/* What a session answers by itself: hellos, pings, refused messages. */
#define LIMIT_ANSWERS_RATE       100u /* a second */
#define LIMIT_ANSWERS_BURST      200u
#define LIMIT_HISTORY            256u
#define LIMIT_SOURCES            8u
#define LIMIT_SESSIONS           16u
#define LIMIT_WORKERS            64u
#define LIMIT_CONFIRM_TIMEOUT_MS 86400000u /* a day */
#define LIMIT_SOFTWARE           128u
#define LIMIT_HOSTNAME           255u
#define LIMIT_JOIN_TOKEN         128u
#define LIMIT_ENDPOINT           262u /* a host name, ':', a port */
#define LIMIT_PACKAGE_NAME       255u
#define LIMIT_RELEASE            (2u * LIMIT_NAME_BYTES + 1u) /* "NAME VERSION" */

/* Who still runs old code */
#define LIMIT_STALE_PROCESSES  256u
#define LIMIT_STALE_NAMESPACES 64u
#define LIMIT_STALE_FILES      4u /* named for each process; mounts for each namespace */
#define LIMIT_STALE_COMMAND    256u
#define LIMIT_STALE_UNIT       255u
#define LIMIT_STALE_BYTES      65536u /* of a report */

/* The tree of a guest */
#define LIMIT_TREE_ITEMS 256u /* of one question, and of one answer */
#define LIMIT_TREE_GLOBS 256u

/* What an agent tells of its guest */
#define LIMIT_FACTS_KEYS   1024u
#define LIMIT_FACTS_PLACES 16u
#define LIMIT_FACTS_WORD   255u /* a kernel's release, a label, a file system's type */
#define LIMIT_CLOCK_US     UINT64_C(253402300800000000) /* the end of the year 9999 */

/* Quiescing */
#define LIMIT_FREEZE_LEASE_MS 60000u
#define LIMIT_FREEZE_MOUNTS   256u /* file systems that are frozen */
#define LIMIT_FREEZE_HOOKS    64u  /* in a directory */
#define LIMIT_HOOK_NAME       255u /* a file's name */

/* Packs */
#define LIMIT_MANIFEST_BYTES (256u * 1024u * 1024u)
#define LIMIT_MANIFEST_MEMORY                                                                                \
        (1024u * 1024u * 1024u) /* also at most 64 times the manifest's bytes plus 1 MiB */
#define LIMIT_SIGNATURE_BYTES    4096u
#define LIMIT_SIGNATURES         8u
#define LIMIT_ENTRIES            (4u * 1024u * 1024u)
#define LIMIT_PATH_BYTES         4095u
#define LIMIT_NAME_BYTES         64u
#define LIMIT_DESCRIPTION_BYTES  4096u
#define LIMIT_XATTRS             64u
#define LIMIT_XATTR_NAME         255u
#define LIMIT_XATTR_VALUE        65536u
#define LIMIT_HOOKS              64u
#define LIMIT_HOOK_SCRIPT        65536u
#define LIMIT_HOOK_TIMEOUT_MS    3600000u
#define LIMIT_HOOK_OUTPUT        16384u
#define LIMIT_REQUIREMENTS       64u
#define LIMIT_RESTART_UNITS      256u
#define LIMIT_OLD_DIGESTS        16u
#define LIMIT_EXTENTS            (1024u * 1024u)
#define LIMIT_DELTA_INDEX_STORED (4u * 1024u * 1024u)
#define LIMIT_DELTA_INDEX        (16u * 1024u * 1024u)
#define LIMIT_DELTA_FRAMES       65536u
#define LIMIT_DELTA_PREFIX       (16u * 1024u * 1024u) /* of one frame: what applying it takes of memory */
#define LIMIT_DELTA_OUTPUT       (8u * 1024u * 1024u)
#define LIMIT_GZIP_FILE          (4u * 1024u * 1024u) /* that is taken apart for a delta */
#define LIMIT_GZIP_HEAD          1024u
#define LIMIT_FILE_SIZE          (UINT64_C(1) << 44) /* 16 TiB, ext4's */

/* The target file system */
#define LIMIT_TARGET_BYTES    (256u * 1024u * 1024u)
#define LIMIT_TARGET_RELEASES 65536u
#define LIMIT_TARGET_MERGES   65536u
