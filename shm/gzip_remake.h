/* shm/gzip_remake.h - gzip files taken apart and made again, bit for bit.
 *
 * Theory of operation: two versions of a gzip file have nothing in common, what is in them nearly everything.
 * So a delta is made of the contents, and the file is compressed again where it is needed. GNU gzip and zlib
 * choose the same matches and differ in where a deflate block ends; told the ends, zlib makes gzip's bytes
 * (docs/decisions/0024). A recipe is what must be told. Whoever makes one tries it; whoever uses one compares
 * the file's digest, since another zlib may choose otherwise.
 *
 * Files of one member, at most LIMIT_GZIP_FILE bytes with at most LIMIT_DELTA_OUTPUT in them. Pure. */
#pragma once

#include <glib.h>

#include "proto/manifest.pb-c.h"

/* The content, or NULL: these bytes are no gzip file, or not only one, damaged, or too large. */
GBytes *gzip_unpack(const void *file, gsize len);
/* The content as well, and how to make the file again. NULL: zlib does not make this one. The recipe is freed
 * with gzip_recipe_free(). */
GBytes *gzip_recipe_make(const void *file, gsize len, Moult__GzipRecipe **ret_recipe);
void gzip_recipe_free(Moult__GzipRecipe *r);
/* NULL, or what is wrong with a recipe for @content bytes. */
const char *gzip_recipe_refusal(const Moult__GzipRecipe *r);
/* A file of at most @size bytes; NULL: it gets longer, or there is no memory. The recipe was judged. */
GBytes *gzip_remake(const Moult__GzipRecipe *r, const void *content, gsize size);
