/* tests/support/tempdir.h - a directory that is there for one test. */
#pragma once

#include <glib.h>

typedef struct {
        char *path;
        int fd; /* O_PATH would not do: tests sync and list it */
} TempDir;

/* Below TMPDIR. Aborts the test on failure. */
TempDir *tempdir_new(void);
/* Removes everything in it. */
void tempdir_free(TempDir *t);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TempDir, tempdir_free)

/* A file with this content. */
void tempdir_put(TempDir *t, const char *name, const void *data, size_t len);
/* Its path; owned by the caller. */
char *tempdir_path(const TempDir *t, const char *name);
