/* host-service/catalogue/operation_id.c - what an operation's id looks like. */
#include "host-service/catalogue/operation_id.h"

#include <string.h>

gboolean operation_id_is_valid(const char *id)
{
        /* 26 digits of 5 bits are 130: the first one has only 3. */
        return strlen(id) == OPERATION_ID_LENGTH && strspn(id, OPERATION_ID_DIGITS) == OPERATION_ID_LENGTH &&
               id[0] <= '7';
}
