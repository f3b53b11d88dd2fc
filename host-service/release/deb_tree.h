/* host-service/release/deb_tree.h - a set of Debian packages as one tree.
 *
 * dpkg-deb takes the packages apart, libarchive reads the tar streams that it gives; nothing is unpacked into
 * the file system, so owners and modes are the packages' own without being root.
 * docs/decisions/0013-packages-through-dpkg-deb.md. */
#pragma once

#include "host-service/release/build_tree.h"

/* @paths: NULL-terminated. @notes (char *, may be NULL): gets what the user should know of the packages. Of
 * @options, exclude and owner_root count. Contents have their digests, conffiles are marked. Errors:
 * NOT_FOUND (a file, or dpkg-deb), REFUSED (no package, two packages with one file), IO, CANCELLED. */
BuildTree *deb_tree_read(const char *const *paths, const struct build_tree_options *options, GPtrArray *notes,
                         GCancellable *cancellable, GError **error);

/* Pure. Takes the lines of a package's "conffiles" into @set (paths below the root, no leading '/'); those
 * that dpkg is to remove are none. */
void deb_conffiles_parse(const char *text, gsize len, GHashTable *set);
