/* shm/pack_delta_writer.c - the deltas of a pack that is being made. */
#include "shm/pack_delta_writer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "common/error.h"
#include "common/fault.h"
#include "common/fd.h"
#include "proto/limits.h"
#include "shm/pack_deltas.h"

#define INDEX_LEVEL 19

struct DeltaWriter {
        int fd; /* the caller's */
        char *path;
        uint64_t begin, at;
        enum delta_index_kind kind; /* that is being filled */
        struct section {
                GPtrArray *sources, *frames;
        } sections[DELTA_INDICES];
};

static void source_free(gpointer s)
{
        moult__delta_source__free_unpacked(s, NULL);
}

static void frame_free(gpointer f)
{
        moult__delta_frame__free_unpacked(f, NULL);
}

DeltaWriter *delta_writer_new(int fd, const char *path, uint64_t begin)
{
        DeltaWriter *w = g_new0(DeltaWriter, 1);
        w->fd = fd;
        w->path = g_strdup(path);
        w->begin = w->at = begin;
        for (unsigned i = 0; i < DELTA_INDICES; i++)
                w->sections[i] = (struct section){g_ptr_array_new_with_free_func(source_free),
                                                  g_ptr_array_new_with_free_func(frame_free)};
        return w;
}

void delta_writer_free(DeltaWriter *w)
{
        if (w == NULL)
                return;
        for (unsigned i = 0; i < DELTA_INDICES; i++) {
                g_ptr_array_unref(w->sections[i].sources);
                g_ptr_array_unref(w->sections[i].frames);
        }
        g_free(w->path);
        g_free(w);
}

void delta_writer_choose(DeltaWriter *w, enum delta_index_kind kind)
{
        w->kind = kind;
}

uint32_t delta_writer_add_source(DeltaWriter *w, uint32_t entry, const char *path,
                                 const uint8_t digest[static DIGEST_SIZE])
{
        Moult__DeltaSource *s = g_new(Moult__DeltaSource, 1);
        moult__delta_source__init(s);
        s->entry = entry;
        if (entry == 0) {
                s->path = (ProtobufCBinaryData){strlen(path), (uint8_t *)g_strdup(path)};
                s->digest = (ProtobufCBinaryData){DIGEST_SIZE, g_memdup2(digest, DIGEST_SIZE)};
        }
        g_ptr_array_add(w->sections[w->kind].sources, s);
        return w->sections[w->kind].sources->len - 1;
}

static gboolean write_at(DeltaWriter *w, const void *data, size_t len, GError **error)
{
        int fake = fault_point("pack-writer.delta");
        if (fake != 0)
                return moult_error_errno(error, fake, "writing the deltas of %s", w->path);
        if (!fd_pwrite_all(w->fd, data, len, (off_t)w->at, w->path, error))
                return FALSE;
        w->at += len;
        return TRUE;
}

gboolean delta_writer_add_frame(DeltaWriter *w, Moult__DeltaFrame *f, GBytes *bytes, GError **error)
{
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        f->offset = w->at;
        f->stored_size = (uint32_t)len;
        g_ptr_array_add(w->sections[w->kind].frames, f);
        return write_at(w, data, len, error);
}

unsigned delta_writer_frames(const DeltaWriter *w)
{
        return w->sections[w->kind].frames->len;
}

uint64_t delta_writer_bytes(const DeltaWriter *w)
{
        return w->at - w->begin;
}

static gboolean write_index(DeltaWriter *w, const struct section *section, struct delta_trailer *ret,
                            GError **error)
{
        Moult__DeltaIndex x = MOULT__DELTA_INDEX__INIT;
        x.n_sources = section->sources->len;
        x.sources = (Moult__DeltaSource **)section->sources->pdata;
        x.n_frames = section->frames->len;
        x.frames = (Moult__DeltaFrame **)section->frames->pdata;
        size_t size = moult__delta_index__get_packed_size(&x), room = ZSTD_COMPRESSBOUND(size);
        if (size > LIMIT_DELTA_INDEX) {
                g_set_error(
                        error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                        "the list of deltas takes %zu bytes, more than %u: split the release, or build it "
                        "without deltas (--no-deltas)",
                        size, LIMIT_DELTA_INDEX);
                return FALSE;
        }
        g_autofree uint8_t *raw = g_malloc(size), *stored = g_malloc(room);
        moult__delta_index__pack(&x, raw);
        size_t n = ZSTD_compress(stored, room, raw, size, INDEX_LEVEL);
        if (ZSTD_isError(n) || n > LIMIT_DELTA_INDEX_STORED) {
                g_set_error(error, MOULT_ERROR, MOULT_ERROR_REFUSED,
                            "the list of deltas cannot be stored: build the release without them "
                            "(--no-deltas)");
                return FALSE;
        }
        *ret = (struct delta_trailer){.index_offset = w->at,
                                      .index_stored = (uint32_t)n,
                                      .index_size = (uint32_t)size,
                                      .index_crc = (uint32_t)crc32(0, stored, (uInt)n)};
        return write_at(w, stored, n, error);
}

gboolean delta_writer_finish(DeltaWriter *w, uint64_t *ret_end, GError **error)
{
        /* Zeros where there is no index of a kind. The first kind's is the last. */
        uint8_t buf[DELTA_INDICES * DELTA_TRAILER_SIZE] = {0};
        if (w->at == w->begin) {
                *ret_end = w->begin;
                return TRUE;
        }
        for (unsigned kind = 0; kind < DELTA_INDICES; kind++) {
                struct delta_trailer t;
                if (w->sections[kind].frames->len == 0)
                        continue;
                if (!write_index(w, &w->sections[kind], &t, error))
                        return FALSE;
                delta_trailer_format(&t, kind, buf + sizeof buf - (kind + 1) * DELTA_TRAILER_SIZE);
        }
        uint64_t end = (w->at + sizeof buf + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
        w->at = end - sizeof buf;
        if (!write_at(w, buf, sizeof buf, error))
                return FALSE;
        *ret_end = end;
        return TRUE;
}
