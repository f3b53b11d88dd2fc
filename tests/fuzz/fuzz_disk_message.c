/* tests/fuzz/fuzz_disk_message.c - packets between moultd and moult-disks, as either side reads them. */
#include <stdint.h>
#include <string.h>

#include "host-service/disk-helper/disk_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(GBytes) packet = g_bytes_new(data, size);
        enum layer_operation operation;
        struct layer_look look;
        struct disk_images images;
        g_autofree char *words = NULL;
        LayerLinks l;
        int status;

        if (disk_request_read(packet, &l, &operation, NULL)) {
                g_autoptr(GBytes) again = disk_request_write(&l, operation);

                /* One meaning, one form; and no name leads out of the directory. */
                if (!g_bytes_equal(packet, again) || strchr(l.well_known, '/') || strchr(l.top, '/') ||
                    strchr(l.next, '/') || operation >= LAYER_OPERATIONS)
                        __builtin_trap();
                disk_request_clear(&l);
        }
        if (disk_images_read(packet, &images, NULL)) {
                const struct disk_options options = {.writable = images.writable,
                                                     .share_at = images.shared ? "" : NULL,
                                                     .size = images.size};
                g_autoptr(GBytes) again = disk_images_write(images.chain, images.n, &options, NULL);

                if (!again || !g_bytes_equal(packet, again) ||
                    disk_request_kind(packet) != DISK_REQUEST_IMAGES)
                        __builtin_trap();
                for (guint i = 0; i < images.n; i++)
                        if (images.chain[i].path[0] != '/' || strstr(images.chain[i].path, "/../"))
                                __builtin_trap();
                disk_images_clear(&images);
        }
        disk_end_read(packet, &status, &words, NULL);
        if (disk_answer_read(packet, &look, NULL) &&
            (look.well_known > WELL_KNOWN_OTHER || look.disk_use > IMAGE_WRITTEN))
                __builtin_trap();
        return 0;
}
