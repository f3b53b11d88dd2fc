/* host-service/catalogue/operation_id.h - what an operation's id looks like: a ULID, 26 characters. */
#pragma once

#include <glib.h>

#define OPERATION_ID_LENGTH 26
#define OPERATION_ID_DIGITS "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

gboolean operation_id_is_valid(const char *id);
