/* host-service/store/check.c - packs against rows, digests and signatures; files against rows. */
#include "host-service/store/check.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "host-service/catalogue/check.h"
#include "host-service/release/pack_verify.h"

struct store_check *store_check_new(const struct host_env *env, const char *trust_dir, GPtrArray *releases)
{
        struct store_check *c = g_new0(struct store_check, 1);

        c->env = env;
        c->trust_dir = g_strdup(trust_dir);
        c->releases = releases;
        c->findings = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
        for (guint i = 0; i < releases->len; i++)
                c->total += (gint64)((const ReleaseRecord *)releases->pdata[i])->size;
        return c;
}

void store_check_free(struct store_check *c)
{
        if (!c)
                return;
        g_free(c->trust_dir);
        g_ptr_array_unref(c->releases);
        g_ptr_array_unref(c->findings);
        g_free(c);
}

gboolean store_file_is_known(const GPtrArray *releases, const char *file)
{
        for (guint i = 0; i < releases->len; i++)
                if (g_str_equal(((const ReleaseRecord *)releases->pdata[i])->file, file))
                        return TRUE;
        return FALSE;
}

static void add(struct store_check *c, FindingKind kind, const ReleaseRecord *r, const char *text)
{
        g_ptr_array_add(c->findings, finding_new(kind, r, r->file, text));
}

/* --- one pack */

struct progress {
        struct store_check *check;
        gint64 base, size; /* bytes before this pack, and of it */
};

/* pack_verify() counts contents; the pack's own size is what the whole is measured in. */
static void on_verified(uint64_t done, uint64_t total, gpointer user)
{
        const struct progress *p = user;
        double part = total ? (double)done / (double)total : 1;

        __atomic_store_n(&p->check->done, p->base + (gint64)((double)p->size * part), __ATOMIC_RELAXED);
}

/* The file as such; FALSE: it is not worth reading on. */
static gboolean look_at_file(struct store_check *c, const ReleaseRecord *r, int fd)
{
        g_autofree char *text = NULL;
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                add(c, FINDING_PACK_DAMAGED, r, "it is not a regular file");
                return FALSE;
        }
        if (st.st_mode & 0222) {
                text = g_strdup_printf("its mode is %04o: it can be written", st.st_mode & 07777u);
                add(c, FINDING_PACK_OPEN, r, text);
                g_clear_pointer(&text, g_free);
        }
        if ((guint64)st.st_size == r->padded_size)
                return TRUE;
        text = g_strdup_printf("it has %" G_GUINT64_FORMAT " bytes and must have %" G_GUINT64_FORMAT
                               ": a VM that maps it ends when it reads what is not there",
                               (guint64)st.st_size, r->padded_size);
        add(c, FINDING_PACK_DAMAGED, r, text);
        return FALSE;
}

static gboolean bytes_equal(ProtobufCBinaryData a, const char *b)
{
        return a.len == strlen(b) && memcmp(a.data, b, a.len) == 0;
}

/* What the row says of the pack. Its digest was compared when the pack was opened. */
static void compare_row(struct store_check *c, const ReleaseRecord *r, PackReader *reader)
{
        const Manifest *m = pack_reader_manifest(reader);
        const struct pack_header *h = pack_reader_header(reader);

        if (!bytes_equal(m->name, r->name) || !bytes_equal(m->version, r->version))
                add(c, FINDING_CATALOGUE_DIFFERS, r, "the pack has another name or version than its row");
        else if (h->pack_size != r->size || m->n_entries != r->entries)
                add(c, FINDING_CATALOGUE_DIFFERS, r, "the row has another size or number of entries");
}

/* Bytes that cannot be read are as lost as wrong ones. FALSE: cancelled. */
static gboolean note_failure(struct store_check *c, const ReleaseRecord *r, GError *why, GError **error)
{
        FindingKind kind = FINDING_PACK_DAMAGED;

        if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
            g_error_matches(why, MOULT_ERROR, MOULT_ERROR_CANCELLED)) {
                g_propagate_error(error, why);
                return FALSE;
        }
        if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_NOT_FOUND))
                kind = FINDING_PACK_MISSING;
        else if (g_error_matches(why, MOULT_ERROR, MOULT_ERROR_UNTRUSTED))
                kind = FINDING_PACK_UNTRUSTED;
        add(c, kind, r, why->message);
        g_error_free(why);
        return TRUE;
}

/* Whether the bytes are whole does not depend on who signed: it is looked at as well. */
static PackReader *open_pack(struct store_check *c, const ReleaseRecord *r, PackSource *source,
                             const TrustStore *trust, GCancellable *cancellable, GError **error)
{
        g_autoptr(GError) why = NULL;
        PackReader *reader = pack_reader_open(source, trust, r->digest, cancellable, &why);

        if (reader || !g_error_matches(why, MOULT_ERROR, MOULT_ERROR_UNTRUSTED)) {
                if (!reader)
                        g_propagate_error(error, g_steal_pointer(&why));
                return reader;
        }
        add(c, FINDING_PACK_UNTRUSTED, r, why->message);
        return pack_reader_open(source, NULL, r->digest, cancellable, error);
}

static gboolean check_pack(struct store_check *c, const ReleaseRecord *r, const TrustStore *trust,
                           GCancellable *cancellable, GError **error)
{
        struct progress p = {c, c->done, (gint64)r->size};
        struct pack_verify_report report = {0};
        GError *why = NULL;
        int fd = c->env->store->open(c->env->self, r->file, &why);
        g_autoptr(PackSource) source = NULL;
        g_autoptr(PackReader) reader = NULL;

        if (fd < 0)
                return note_failure(c, r, why, error);
        if (!look_at_file(c, r, fd)) {
                scoped_fd_close(&fd);
                return TRUE;
        }
        source = pack_source_file_new(fd, &why);
        if (source)
                reader = open_pack(c, r, source, trust, cancellable, &why);
        if (!reader || !pack_verify(reader, 0, on_verified, &p, cancellable, &report, &why))
                return note_failure(c, r, why, error);
        compare_row(c, r, reader);
        c->files += report.files;
        c->bytes += report.bytes;
        return TRUE;
}

/* --- all */

static gboolean check_left_over(struct store_check *c, GError **error)
{
        g_auto(GStrv) files = c->env->store->list(c->env->self, error);

        if (!files)
                return FALSE;
        for (GStrv f = files; *f; f++)
                if (!store_file_is_known(c->releases, *f))
                        g_ptr_array_add(c->findings,
                                        finding_new(FINDING_LEFT_OVER, NULL, *f, "no release has this file"));
        return TRUE;
}

static gboolean check_catalogue(struct store_check *c, GCancellable *cancellable, GError **error)
{
        g_autofree char *problem = NULL;

        if (!catalogue_check(c->env, &problem, cancellable, error))
                return FALSE;
        if (problem)
                g_ptr_array_add(c->findings, finding_new(FINDING_CATALOGUE_DAMAGED, NULL, NULL, problem));
        return TRUE;
}

gboolean store_check_run(struct store_check *c, GCancellable *cancellable, GError **error)
{
        g_autoptr(TrustStore) trust = trust_store_load(c->trust_dir, error);

        if (!trust) {
                g_prefix_error(error, "the keys in the trust directory: ");
                return FALSE;
        }
        for (guint i = 0; i < c->releases->len; i++) {
                const ReleaseRecord *r = c->releases->pdata[i];
                gint64 after = c->done + (gint64)r->size;

                if (g_cancellable_set_error_if_cancelled(cancellable, error) ||
                    !check_pack(c, r, trust, cancellable, error))
                        return FALSE;
                __atomic_store_n(&c->done, after, __ATOMIC_RELAXED);
                fault_point("store-checked");
        }
        return check_left_over(c, error) && check_catalogue(c, cancellable, error);
}
