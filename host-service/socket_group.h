/* host-service/socket_group.h - files of moultd's that an operators' group may use. */
#pragma once

#include <glib.h>

/* @path becomes the group's; NULL: it stays moultd's. NOT_FOUND: there is no such group. */
gboolean socket_group_give(const char *path, const char *group, GError **error);
