/* host-service/release/predecessor.h - which file of an old tree a new file was made from, by their paths.
 *
 * Theory of operation: the file at the same path, else one of the same family: a path that differs in version
 * numbers alone (a kernel's modules move with its version). Of several such, the one that keeps most of the
 * numbers: 6.1.0-57/sha512.ko follows 6.1.0-56/sha512.ko, and not sha256.ko beside it. Then the newest. */
#pragma once

#include "host-service/release/build_tree.h"

typedef struct Predecessors Predecessors;

/* @base must stay as long. */
Predecessors *predecessors_new(const BuildTree *base);
void predecessors_free(Predecessors *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Predecessors, predecessors_free)
/* The index in the base of a regular file with content (of several names of one file: its leader); -1: none
 * that is known. */
gssize predecessors_find(const Predecessors *p, const char *path);

/* Pure: the path with each number as one '#'; a number is digits, with dots between them. Owned by the
 * caller. */
char *predecessor_family(const char *path);
/* Pure: > 0 if @a is the better predecessor of @path than @b, < 0 if @b is. All are of one family. */
int predecessor_compare(const char *path, const char *a, const char *b);
