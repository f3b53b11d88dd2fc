/* host-service/image/image_lock.c - QEMU locks single bytes of an image (block/file-posix.c): what it does
 * with it from 100 on, what it does not let others do from 200 on. Writing is the second of them. */
#include "host-service/image/image_lock.h"

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#define LOCKS_FIRST   100
#define LOCKS_COUNT   164
#define LOCK_TO_WRITE 101

static bool is_locked(int fd, off_t from, off_t len)
{
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = len};

        return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

enum image_lock image_lock_look(int fd)
{
        return is_locked(fd, LOCK_TO_WRITE, 1)           ? IMAGE_WRITTEN
               : is_locked(fd, LOCKS_FIRST, LOCKS_COUNT) ? IMAGE_READ
                                                         : IMAGE_FREE;
}
