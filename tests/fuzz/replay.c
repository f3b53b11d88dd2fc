/* tests/fuzz/replay.c - feeds every file of a corpus directory to a fuzz target, once, in an ordinary build.
 *
 * An empty or missing corpus is a failure: a replay of nothing would pass for ever. */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replay(const char *path)
{
        if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
                g_autoptr(GError) error = NULL;
                g_autofree char *text = NULL;
                gsize len;
                if (!g_file_get_contents(path, &text, &len, &error)) {
                        fprintf(stderr, "replay: %s\n", error->message);
                        return 0;
                }
                /* A copy of the exact size, so that AddressSanitizer sees a read past the end. */
                g_autofree uint8_t *exact = g_memdup2(text, len);
                fprintf(stderr, "replay: %s (%zu bytes)\n", path, len);
                LLVMFuzzerTestOneInput(exact, len);
                return 1;
        }
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        unsigned n = 0;
        for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
                g_autofree char *child = g_build_filename(path, name, NULL);
                n += replay(child);
        }
        return n;
}

int main(int argc, char **argv)
{
        unsigned n = 0;
        for (int i = 1; i < argc; i++)
                n += replay(argv[i]);
        printf("replayed %u inputs\n", n);
        return n > 0 ? 0 : 1;
}
