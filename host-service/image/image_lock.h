/* host-service/image/image_lock.h - whether a QEMU of this machine has an image open: by its locks on the
 * file. */
#pragma once

enum image_lock { IMAGE_FREE, IMAGE_READ, IMAGE_WRITTEN };
/* What QEMUs of this machine do with it. On file systems without locks: IMAGE_FREE. */
enum image_lock image_lock_look(int fd);
