/* common/glob_list.h - a list of patterns, and which of them a path matches first: fnmatch(3) without flags.
 *
 * For lists of dozens of patterns that are asked about each path of a system: a pattern is tried only on
 * paths that begin with what it says before its first wildcard. */
#pragma once

#include <glib.h>

typedef struct GlobList GlobList;

GlobList *glob_list_new(void);
void glob_list_free(GlobList *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GlobList, glob_list_free)

/* Copies @len bytes, which hold no NUL. */
void glob_list_add(GlobList *l, const void *glob, gsize len);
/* The number of the first pattern, in the order in which they were added, that matches all of @path; -1: none
 * does. */
gssize glob_list_find(const GlobList *l, const char *path);
