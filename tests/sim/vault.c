/* tests/sim/vault.c - the packs of the simulated store. */
#include "tests/sim/vault.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct Vault {
        int fds[VAULT_RELEASES + 1][VAULT_MANNERS];
};

static guint8 byte_of(guint release, gsize at)
{
        return (guint8)((at * 2654435761u + release * 40503u) >> 9);
}

static int make(guint release, VaultManner manner)
{
        gsize len = manner == VAULT_SHORT ? VAULT_PACK_SIZE / 3 : VAULT_PACK_SIZE;
        g_autofree guint8 *bytes = g_malloc(len);
        int fd = memfd_create("pack", MFD_CLOEXEC);

        for (gsize i = 0; i < len; i++)
                bytes[i] = byte_of(release, i);
        if (manner == VAULT_FLIPPED)
                for (gsize i = 100; i < len; i += 997)
                        bytes[i] ^= 0x10;
        if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
                g_error("a pack cannot be made");
        return fd;
}

Vault *vault_new(void)
{
        Vault *v = g_new0(Vault, 1);

        for (guint r = 1; r <= VAULT_RELEASES; r++)
                for (guint m = 0; m < VAULT_MANNERS; m++)
                        v->fds[r][m] = make(r, (VaultManner)m);
        return v;
}

void vault_free(Vault *v)
{
        for (guint r = 1; v && r <= VAULT_RELEASES; r++)
                for (guint m = 0; m < VAULT_MANNERS; m++)
                        close(v->fds[r][m]);
        g_free(v);
}

const char *vault_version(guint release)
{
        static const char *const versions[] = {"0.0", "1.0", "2.0", "3.0"};

        return versions[release];
}

const char *vault_file(guint release)
{
        static const char *const files[] = {"demo-0.0.moult", "demo-1.0.moult", "demo-2.0.moult",
                                            "demo-3.0.moult"};

        return files[release];
}

void vault_digest(guint release, guint8 ret[static DIGEST_SIZE])
{
        memset(ret, (int)(0xa0 + release), DIGEST_SIZE);
}

guint vault_find_digest(const guint8 *digest, gsize len)
{
        return len == DIGEST_SIZE && digest[0] > 0xa0 && digest[0] <= 0xa0 + VAULT_RELEASES
                       ? digest[0] - 0xa0u
                       : 0;
}

guint vault_find_file(const char *name)
{
        for (guint r = 1; r <= VAULT_RELEASES; r++)
                if (g_strcmp0(name, vault_file(r)) == 0)
                        return r;
        return 0;
}

int vault_open(const Vault *v, guint release, VaultManner manner)
{
        return fcntl(v->fds[release][manner], F_DUPFD_CLOEXEC, 3);
}

gboolean vault_is(guint release, const guint8 *bytes, gsize len, gsize at)
{
        for (gsize i = 0; i < len; i++)
                if (bytes[i] != byte_of(release, at + i))
                        return FALSE;
        return at + len <= VAULT_PACK_SIZE;
}
