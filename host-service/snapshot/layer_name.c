/* host-service/snapshot/layer_name.c - the names of layers. */
#include "host-service/snapshot/layer_name.h"

#include <limits.h>
#include <string.h>

#include "common/error.h"
#include "host-service/catalogue/operation_id.h"

#define MARK   ".moult-"
#define SUFFIX ".layer"
#define ID_LEN ((gsize)OPERATION_ID_LENGTH)

char *layer_name_new(const char *base, const char *id, guint disk, GError **error)
{
        g_autofree char *name = g_strdup_printf("%s" MARK "%s-%u" SUFFIX, base, id, disk);

        g_assert(operation_id_is_valid(id) && disk < LAYER_DISKS_MAX);
        if (strlen(name) <= NAME_MAX)
                return g_steal_pointer(&name);
        g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                    "the file name %s is too long: a layer's has %zu bytes more, and all may have %d", base,
                    strlen(name) - strlen(base), NAME_MAX);
        return NULL;
}

/* A number as we write it: no sign, no zeros before. */
static gboolean parse_disk(const char *text, gsize len, guint *ret)
{
        guint n = 0;

        if (len < 1 || len > 2 || (len > 1 && text[0] == '0'))
                return FALSE;
        for (gsize i = 0; i < len; i++) {
                if (!g_ascii_isdigit(text[i]))
                        return FALSE;
                n = n * 10 + (guint)(text[i] - '0');
        }
        *ret = n;
        return n < LAYER_DISKS_MAX;
}

gboolean layer_name_parse(const char *name, const char *base, struct layer_name *ret)
{
        gsize base_len = strlen(base);
        const char *at = name + base_len + strlen(MARK);

        if (strncmp(name, base, base_len) != 0 || strncmp(name + base_len, MARK, strlen(MARK)) != 0 ||
            !g_str_has_suffix(name, SUFFIX) || strlen(at) < ID_LEN + 1 + strlen(SUFFIX) || at[ID_LEN] != '-')
                return FALSE;
        memcpy(ret->id, at, ID_LEN);
        ret->id[ID_LEN] = 0;
        at += ID_LEN + 1;
        return operation_id_is_valid(ret->id) && parse_disk(at, strlen(at) - strlen(SUFFIX), &ret->disk);
}

char *layer_name_base(const char *name)
{
        const char *mark = g_strrstr(name, MARK);
        g_autofree char *base = mark ? g_strndup(name, (gsize)(mark - name)) : NULL;
        struct layer_name n;

        return base && *base && layer_name_parse(name, base, &n) ? g_steal_pointer(&base) : NULL;
}

char *layer_name_id(const char *name)
{
        g_autofree char *base = layer_name_base(name);
        struct layer_name n;

        if (!base || !layer_name_parse(name, base, &n))
                return NULL;
        return g_strdup_printf("%s-%u", n.id, n.disk);
}

#define ULID_TIME_LEN 10 /* digits; the random part comes after them */

char *layer_name_of_top(const char *name)
{
        g_autofree char *base = layer_name_base(name);
        struct layer_name n;
        const char *digit;

        if (!base || !layer_name_parse(name, base, &n))
                return NULL;
        digit = strchr(OPERATION_ID_DIGITS, n.id[ULID_TIME_LEN]);
        n.id[ULID_TIME_LEN] = OPERATION_ID_DIGITS[(digit - OPERATION_ID_DIGITS) ^ 16];
        return layer_name_new(base, n.id, n.disk, NULL);
}
