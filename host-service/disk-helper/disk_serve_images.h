/* host-service/disk-helper/disk_serve_images.h - a qemu-nbd for moultd, as long as the connection. */
#pragma once

#include "host-service/disk-helper/disk_serve.h"

/* Answers @request, which came with the socket @listening (-1: without), and then waits for the end of the
 * connection, or tells the end of the process. FALSE: the connection broke. */
gboolean disk_serve_images(GSocket *s, const struct disk_service *service, GBytes *request, int listening,
                           GError **error);
