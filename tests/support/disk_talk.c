/* tests/support/disk_talk.c - asks moult-disks as moultd does: one operation after the other.
 *
 *     disk_talk SOCKET DIR DISK TOP NEXT SIZE OPERATION[=IMAGE]...
 *
 * Prints a line for each: "ok", what was found, or the error. Ends with 1 after an error. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-service/disk-helper/disk_client.h"

static const char *const names[LAYER_OPERATIONS] = {"look",      "name-top",    "make-next",  "place-next",
                                                    "place-top", "remove-next", "unname-top", "copy-top"};

static int find(const char *word)
{
        gsize len = strcspn(word, "=");

        for (int i = 0; i < LAYER_OPERATIONS; i++)
                if (strlen(names[i]) == len && strncmp(names[i], word, len) == 0)
                        return i;
        fprintf(stderr, "disk_talk: there is no operation %s\n", word);
        exit(2);
}

static gboolean ask(DiskClient *c, const LayerLinks *l, const char *word)
{
        g_autoptr(GError) error = NULL;
        struct layer_look look = {0};
        int operation = find(word);
        const char *image = strchr(word, '=');
        int fd = image ? open(image + 1, O_RDONLY | O_CLOEXEC) : -1;
        gboolean well = disk_client_do(c, l, (enum layer_operation)operation, fd, &look, NULL, &error);

        if (!well)
                printf("%s\n", error->message);
        else if (operation == LAYER_LOOK)
                printf("path %d top %d next %d\n", look.well_known, look.has_top, look.has_next);
        else
                printf("ok\n");
        if (fd >= 0)
                close(fd);
        return well;
}

int main(int argc, char **argv)
{
        LayerLinks l = {.dir_fd = -1};
        DiskClient *c;
        int status = 0;

        if (argc < 8) {
                fprintf(stderr, "disk_talk: SOCKET DIR DISK TOP NEXT SIZE OPERATION[=IMAGE]...\n");
                return 2;
        }
        l.dir = argv[2];
        l.well_known = argv[3];
        l.top = argv[4];
        l.next = argv[5];
        l.size = g_ascii_strtoull(argv[6], NULL, 10);
        l.below = g_build_filename(l.dir, l.top, NULL);
        c = disk_client_new(argv[1]);
        for (int i = 7; i < argc && status == 0; i++)
                status = ask(c, &l, argv[i]) ? 0 : 1;
        disk_client_free(c);
        g_free(l.below);
        return status;
}
