/* host-service/image/image_copy.h - a copy of an image that is worked on, and then takes the image's place.
 *
 * The copy lies beside its target under a hidden name, locked as long as somebody works on it. A process that
 * dies leaves one behind; the next one on the same target removes it. Until image_copy_publish() the target
 * is what it was, whatever happens; after it, it is the new one. */
#pragma once

#include <gio/gio.h>

#include "host-service/image/image_file.h"

typedef struct ImageCopy ImageCopy;

/* Copies @from; shares its blocks where the file system can. @target: what the copy will be called, which may
 * be @from's own path. Errors: BUSY (somebody else works on the target), NO_SPACE, CANCELLED, IO. */
ImageCopy *image_copy_new(const struct image_name *from, const char *target, GCancellable *cancellable,
                          GError **error);
/* Removes the copy, unless it was published. */
void image_copy_free(ImageCopy *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageCopy, image_copy_free)

/* The copy, as an image of the same format. Owned by @c. */
const struct image_name *image_copy_name(const ImageCopy *c);
/* On the disk first, then under the target's name, with the mode and owner that @from had. @replace: the
 * target may be there already. BUSY: it is there and may not, or it is @from's own file and that was changed
 * or opened meanwhile. */
gboolean image_copy_publish(ImageCopy *c, gboolean replace, GError **error);
