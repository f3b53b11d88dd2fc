/* host-service/cli/push_stale.h - who still runs old code after a push, in words. */
#pragma once

#include <json-glib/json-glib.h>

/* Appends lines to @s; nothing if there is nothing to tell. */
void push_stale_words(GString *s, JsonObject *push);
