/* fuse-overlay/object_memo.h - which objects are known to be whole, so that one transaction reads each once.
 *
 * An object that was verified, or written by us from verified bytes, is known by its inode and the time of
 * its last change, which nobody can set: whatever writes to it, or puts another file in its place, makes it
 * unknown. What decays on the disk does not, so whoever begins something new forgets all. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

typedef struct ObjectMemo ObjectMemo;
ObjectMemo *object_memo_new(void);
void object_memo_free(ObjectMemo *m);
/* Any thread. @path: of the object in the store. */
void object_memo_note(ObjectMemo *m, const char *path, const struct stat *st);
gboolean object_memo_knows(ObjectMemo *m, const char *path, const struct stat *st);
void object_memo_clear(ObjectMemo *m);
