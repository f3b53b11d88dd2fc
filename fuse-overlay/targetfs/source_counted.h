/* fuse-overlay/targetfs/source_counted.h - a pack source that counts what is read through another one. */
#pragma once

#include "shm/pack_source.h"

/* Takes over @inner, and looks like it. Bytes that were read are added to *@bytes (atomic), which must
 * outlive it. */
PackSource *source_counted_new(PackSource *inner, gsize *bytes);
