/* host-service/store/chunk_index.c - encoding and judging .caibx files. */
#include "host-service/store/chunk_index.h"

#include <string.h>

#include "host-service/store/chunk_cut.h"

#define TYPE_INDEX  UINT64_C(0x96824d9c7b129ff9)
#define TYPE_TABLE  UINT64_C(0xe75b9e112f17417d)
#define TAIL_MARKER UINT64_C(0x4b4f050e5549ecd1)
#define HEADER_SIZE 48u
#define TABLE_SIZE  16u
#define ITEM_SIZE   40u
#define TAIL_SIZE   40u

static void put(GByteArray *a, uint64_t v)
{
        uint64_t le = GUINT64_TO_LE(v);

        g_byte_array_append(a, (const uint8_t *)&le, sizeof le);
}

static uint64_t get(const uint8_t *p)
{
        uint64_t le;

        memcpy(&le, p, sizeof le);
        return GUINT64_FROM_LE(le);
}

GBytes *chunk_index_encode(const GArray *refs)
{
        GByteArray *a = g_byte_array_new();

        put(a, HEADER_SIZE);
        put(a, TYPE_INDEX);
        put(a, 0);
        put(a, CHUNK_CUT_MIN);
        put(a, CHUNK_CUT_AVG);
        put(a, CHUNK_CUT_MAX);
        put(a, UINT64_MAX);
        put(a, TYPE_TABLE);
        for (guint i = 0; i < refs->len; i++) {
                const struct chunk_ref *r = &g_array_index(refs, struct chunk_ref, i);

                put(a, r->end);
                g_byte_array_append(a, r->id, sizeof r->id);
        }
        put(a, 0);
        put(a, 0);
        put(a, HEADER_SIZE);
        put(a, TABLE_SIZE + (uint64_t)refs->len * ITEM_SIZE + TAIL_SIZE);
        put(a, TAIL_MARKER);
        return g_byte_array_free_to_bytes(a);
}

static const char *frame_refusal(const uint8_t *data, size_t len)
{
        const uint8_t *tail = data + len - TAIL_SIZE;

        if (get(data) != HEADER_SIZE || get(data + 8) != TYPE_INDEX)
                return "it is no chunk index";
        if (get(data + 16) != 0)
                return "it has features that moult does not know";
        if (get(data + HEADER_SIZE) != UINT64_MAX || get(data + HEADER_SIZE + 8) != TYPE_TABLE)
                return "it has no table";
        if (get(tail) != 0 || get(tail + 8) != 0 || get(tail + 16) != HEADER_SIZE ||
            get(tail + 24) != len - HEADER_SIZE || get(tail + 32) != TAIL_MARKER)
                return "it does not end as it must";
        return NULL;
}

const char *chunk_index_parse(const uint8_t *data, size_t len, GArray **ret_refs)
{
        const size_t around = HEADER_SIZE + TABLE_SIZE + TAIL_SIZE;
        g_autoptr(GArray) refs = NULL;
        uint64_t at = 0;
        const char *why;

        if (len < around + ITEM_SIZE || len > CHUNK_INDEX_MAX_BYTES || (len - around) % ITEM_SIZE != 0)
                return "it has no length that a chunk index can have";
        why = frame_refusal(data, len);
        if (why)
                return why;
        refs = g_array_sized_new(FALSE, FALSE, sizeof(struct chunk_ref), (guint)((len - around) / ITEM_SIZE));
        for (const uint8_t *p = data + HEADER_SIZE + TABLE_SIZE; p < data + len - TAIL_SIZE; p += ITEM_SIZE) {
                struct chunk_ref r = {.end = get(p)};

                if (r.end <= at || r.end - at > CHUNK_CUT_MAX)
                        return "a chunk has a length that none can have";
                at = r.end;
                memcpy(r.id, p + 8, sizeof r.id);
                g_array_append_val(refs, r);
        }
        *ret_refs = g_steal_pointer(&refs);
        return NULL;
}

char *chunk_key(const uint8_t id[static DIGEST_SIZE])
{
        char hex[2 * DIGEST_SIZE + 1];

        digest_to_hex(id, hex);
        return g_strdup_printf("chunks/%.4s/%s.cacnk", hex, hex);
}

gboolean chunk_key_is(const char *key)
{
        const gsize hex = 2 * DIGEST_SIZE;
        const char *name;

        if (!g_str_has_prefix(key, "chunks/"))
                return FALSE;
        key += strlen("chunks/");
        name = key + 5;
        return strlen(key) == 5 + hex + strlen(".cacnk") && key[4] == '/' && memcmp(key, name, 4) == 0 &&
               strspn(name, "0123456789abcdef") == hex && g_str_has_suffix(name, ".cacnk");
}

char *release_key(const char *name, const char *version)
{
        return g_strdup_printf("releases/%s/%s.caibx", name, version);
}
