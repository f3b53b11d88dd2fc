/* host-service/cli/suggest.c - the word that somebody probably meant. */
#include "host-service/cli/suggest.h"

#include <glib.h>
#include <string.h>

#define WORD_MAX 64

unsigned suggest_distance(const char *a, const char *b)
{
        size_t la = strnlen(a, WORD_MAX), lb = strnlen(b, WORD_MAX);
        unsigned d[WORD_MAX + 1][WORD_MAX + 1];

        for (size_t i = 0; i <= la; i++)
                d[i][0] = (unsigned)i;
        for (size_t j = 0; j <= lb; j++)
                d[0][j] = (unsigned)j;
        for (size_t i = 1; i <= la; i++) {
                for (size_t j = 1; j <= lb; j++) {
                        unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

                        best = MIN(best, d[i - 1][j] + 1);
                        best = MIN(best, d[i][j - 1] + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                best = MIN(best, d[i - 2][j - 2] + 1);
                        d[i][j] = best;
                }
        }
        return d[la][lb];
}

const char *suggest_word(const char *typed, const char *const *words)
{
        unsigned limit = strlen(typed) < 4 ? 1 : 2, best = limit + 1;
        const char *found = NULL;

        for (unsigned i = 0; words[i]; i++) {
                unsigned distance = suggest_distance(typed, words[i]);

                /* A word that was cut short is meant too: `hist` for `history`. */
                if (strlen(typed) >= 3 && g_str_has_prefix(words[i], typed))
                        distance = MIN(distance, 1);
                if (distance < best) {
                        best = distance;
                        found = words[i];
                }
        }
        return found;
}
