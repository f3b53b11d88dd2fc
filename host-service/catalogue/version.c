/* host-service/catalogue/version.c - the order of versions, as dpkg has it (deb-version(7)). */
#include "host-service/catalogue/releases.h"

#include <string.h>

/* Place of one character among its like: '~' before the end of the text, letters before everything else. */
static int order_of(char ch)
{
        if (ch == '\0' || g_ascii_isdigit(ch))
                return 0;
        if (ch == '~')
                return -1;
        return g_ascii_isalpha(ch) ? (unsigned char)ch : (unsigned char)ch + 256;
}

/* Compares without an epoch: runs of non-digits by order_of(), runs of digits as numbers of any length. */
static int compare_part(const char *a, const char *b)
{
        while (*a || *b) {
                int longer = 0;

                while ((*a && !g_ascii_isdigit(*a)) || (*b && !g_ascii_isdigit(*b))) {
                        int d = order_of(*a) - order_of(*b);

                        if (d != 0)
                                return d;
                        if (*a)
                                a++;
                        if (*b)
                                b++;
                }
                while (*a == '0')
                        a++;
                while (*b == '0')
                        b++;
                while (g_ascii_isdigit(*a) && g_ascii_isdigit(*b)) {
                        if (longer == 0)
                                longer = *a - *b;
                        a++;
                        b++;
                }
                if (g_ascii_isdigit(*a))
                        return 1;
                if (g_ascii_isdigit(*b))
                        return -1;
                if (longer != 0)
                        return longer;
        }
        return 0;
}

/* Splits "EPOCH:REST"; a text before ':' that is no number belongs to the rest. */
static guint64 epoch_of(const char *v, const char **ret_rest)
{
        const char *colon = strchr(v, ':');
        guint64 epoch;
        char digits[20];

        *ret_rest = v;
        if (!colon || colon == v || (gsize)(colon - v) >= sizeof digits)
                return 0;
        memcpy(digits, v, (gsize)(colon - v));
        digits[colon - v] = '\0';
        if (!g_ascii_string_to_unsigned(digits, 10, 0, G_MAXUINT64, &epoch, NULL))
                return 0;
        *ret_rest = colon + 1;
        return epoch;
}

int version_compare(const char *a, const char *b)
{
        const char *rest_a, *rest_b;
        guint64 epoch_a = epoch_of(a, &rest_a), epoch_b = epoch_of(b, &rest_b);
        const char *rev_a, *rev_b;
        g_autofree char *up_a = NULL, *up_b = NULL;
        int d;

        if (epoch_a != epoch_b)
                return epoch_a < epoch_b ? -1 : 1;
        /* The last '-' begins the packager's revision; none is like "0". */
        rev_a = strrchr(rest_a, '-');
        rev_b = strrchr(rest_b, '-');
        up_a = rev_a ? g_strndup(rest_a, (gsize)(rev_a - rest_a)) : g_strdup(rest_a);
        up_b = rev_b ? g_strndup(rest_b, (gsize)(rev_b - rest_b)) : g_strdup(rest_b);
        d = compare_part(up_a, up_b);
        if (d == 0)
                d = compare_part(rev_a ? rev_a + 1 : "", rev_b ? rev_b + 1 : "");
        return (d > 0) - (d < 0);
}
