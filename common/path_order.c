/* common/path_order.c - the order in which a tree is walked. */
#include "common/path_order.h"

#include <string.h>

int path_order_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
        const unsigned char *x = a, *y = b;
        size_t i = 0;

        while (i < a_len && i < b_len && x[i] == y[i])
                i++;
        if (i == a_len || i == b_len)
                return a_len == b_len ? 0 : a_len < b_len ? -1 : 1;
        if (x[i] == '/' || y[i] == '/')
                return x[i] == '/' ? -1 : 1;
        return x[i] < y[i] ? -1 : 1;
}

int path_order(const char *a, const char *b)
{
        return path_order_bytes(a, strlen(a), b, strlen(b));
}
