/* common/path_order.h - the order in which a tree is walked: a directory, then what is in it, then what
 * follows. */
#pragma once

#include <stddef.h>

/* As strcmp(), but '/' sorts before every other byte: "a" < "a/b" < "a-b". Pure. */
int path_order(const char *a, const char *b);
/* The same over bytes that have no NUL. */
int path_order_bytes(const void *a, size_t a_len, const void *b, size_t b_len);
