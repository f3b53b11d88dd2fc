/* tests/unit/test_shm_gzip_remake.c - gzip files come out as they went in, or not at all. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <gio/gio.h>
#include <string.h>
#include <zlib.h>

#include "proto/limits.h"
#include "shm/gzip_remake.h"

TestSuite(gzip_remake, .timeout = 120);

/* Lines of which only the end differs: gzip ends its blocks early in it, zlib does not. */
static GBytes *text_of(gsize len)
{
        g_autoptr(GRand) r = g_rand_new_with_seed(11);
        GString *s = g_string_new(NULL);

        while (s->len < len)
                g_string_append_printf(s, "what every line of it begins with: %08x\n", g_rand_int(r));
        g_string_truncate(s, len);
        return g_string_free_to_bytes(s);
}

/* What the program gzip makes of it. */
static GBytes *gzip(GBytes *content, const char *options)
{
        g_autoptr(GError) error = NULL;
        GBytes *ret = NULL;
        g_autoptr(GSubprocess) p =
                g_subprocess_new(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE, &error,
                                 "gzip", options, NULL);

        cr_assert(ne(ptr, p, NULL));
        cr_assert(g_subprocess_communicate(p, content, NULL, &ret, NULL, &error));
        return ret;
}

static void expect_remade(GBytes *file, GBytes *content, const char *options)
{
        Moult__GzipRecipe *r = NULL;
        gsize len, n;
        const void *d = g_bytes_get_data(file, &len);
        g_autoptr(GBytes) in_it = gzip_recipe_make(d, len, &r), again = NULL;

        cr_expect(ne(ptr, in_it, NULL), "%zu bytes by gzip %s", g_bytes_get_size(content), options);
        if (!in_it)
                return;
        cr_expect(g_bytes_equal(in_it, content));
        cr_expect(eq(ptr, (void *)gzip_recipe_refusal(r), NULL));
        again = gzip_remake(r, g_bytes_get_data(content, &n), len);
        cr_assert(ne(ptr, again, NULL));
        cr_expect(g_bytes_equal(again, file));
        cr_expect(eq(ptr, gzip_remake(r, g_bytes_get_data(content, NULL), len - 1), NULL), "no room");
        gzip_recipe_free(r);
}

Test(gzip_remake, what_gzip_made_comes_out_again)
{
        static const gsize sizes[] = {0, 1, 5000, 300000};
        static const char *const options[] = {"-9n", "-6n", "-9"};

        for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++)
                for (gsize k = 0; k < G_N_ELEMENTS(options); k++) {
                        g_autoptr(GBytes) content = text_of(sizes[i]), file = gzip(content, options[k]);

                        expect_remade(file, content, options[k]);
                }
}

Test(gzip_remake, blocks_are_told_where_gzip_ends_them_by_its_own_rule)
{
        g_autoptr(GBytes) content = text_of(300000), file = gzip(content, "-9n");
        gsize len;
        const void *d = g_bytes_get_data(file, &len);
        Moult__GzipRecipe *r = NULL;
        g_autoptr(GBytes) in_it = gzip_recipe_make(d, len, &r);

        cr_assert(ne(ptr, in_it, NULL));
        cr_expect(gt(sz, r->n_blocks, 0), "or this test is of nothing");
        cr_expect(zero(sz, r->head.len));
        gzip_recipe_free(r);
}

Test(gzip_remake, what_is_no_whole_gzip_file_is_not_taken_apart)
{
        g_autoptr(GBytes) content = text_of(5000), file = gzip(content, "-9n");
        gsize len;
        const guint8 *d = g_bytes_get_data(file, &len);
        g_autofree guint8 *twice = g_malloc(2 * len);
        g_autoptr(GBytes) good = gzip_unpack(d, len);

        cr_assert(ne(ptr, good, NULL));
        for (gsize i = 0; i < len; i++)
                cr_expect(eq(ptr, gzip_unpack(d, i), NULL), "cut to %zu", i);
        memcpy(twice, d, len);
        memcpy(twice + len, d, len);
        cr_expect(eq(ptr, gzip_unpack(twice, 2 * len), NULL), "two members");
        twice[len - 5] ^= 1;
        cr_expect(eq(ptr, gzip_unpack(twice, len), NULL), "another CRC");
}

Test(gzip_remake, a_bomb_is_refused)
{
        g_autofree guint8 *zeros = g_malloc0(LIMIT_DELTA_OUTPUT + 1);
        g_autoptr(GBytes) content = g_bytes_new_static(zeros, LIMIT_DELTA_OUTPUT + 1);
        g_autoptr(GBytes) file = gzip(content, "-9n"), got = NULL;
        gsize len;
        guint8 *d = g_bytes_unref_to_data(g_steal_pointer(&file), &len);

        cr_expect(eq(ptr, gzip_unpack(d, len), NULL));
        memset(d + len - 4, 0, 3); /* and if it says that it is small */
        d[len - 1] = 0;
        got = gzip_unpack(d, len);
        cr_expect(eq(ptr, got, NULL));
        g_free(d);
}

Test(gzip_remake, recipes_are_judged)
{
        uint32_t blocks[] = {10, 20};
        Moult__GzipRecipe r = MOULT__GZIP_RECIPE__INIT;

        r.content = 31;
        r.n_blocks = 2;
        r.blocks = blocks;
        cr_expect(eq(ptr, (void *)gzip_recipe_refusal(&r), NULL));
        r.content = 30;
        cr_expect(ne(ptr, (void *)gzip_recipe_refusal(&r), NULL), "nothing is left for the last block");
        r.content = LIMIT_DELTA_OUTPUT + 1;
        cr_expect(ne(ptr, (void *)gzip_recipe_refusal(&r), NULL));
        r.content = 31;
        blocks[0] = 0;
        cr_expect(ne(ptr, (void *)gzip_recipe_refusal(&r), NULL));
        blocks[0] = 1;
        r.level = 10;
        cr_expect(ne(ptr, (void *)gzip_recipe_refusal(&r), NULL));
        r.level = 9;
        r.memory = 10;
        cr_expect(ne(ptr, (void *)gzip_recipe_refusal(&r), NULL));
}
