/* host-service/s3_list.c - reading the XML of ListObjectsV2.
 *
 * <ListBucketResult> <IsTruncated>, <NextContinuationToken>, and for each object <Contents> with <Key>,
 * <LastModified>, <Size>. All else is passed over: services differ in it. */
#include "host-service/s3_list.h"

#include <string.h>

struct reading {
        S3List list;
        struct object_entry *entry; /* inside <Contents> */
        GString *text;              /* of the element that is open */
        gboolean dated, truncated;
        const char *why;
};

void s3_list_clear(S3List *l)
{
        g_clear_pointer(&l->entries, g_ptr_array_unref);
        g_clear_pointer(&l->next, g_free);
}

static const char *parent(GMarkupParseContext *c)
{
        const GSList *stack = g_markup_parse_context_get_element_stack(c);

        return stack && stack->next ? stack->next->data : "";
}

static gboolean is_root(GMarkupParseContext *c)
{
        return !g_markup_parse_context_get_element_stack(c)->next;
}

static void on_start(GMarkupParseContext *c, const char *element, const char **names, const char **values,
                     gpointer user, GError **error)
{
        struct reading *r = user;

        g_string_truncate(r->text, 0);
        if (is_root(c) && !g_str_equal(element, "ListBucketResult"))
                r->why = "it is no list of objects";
        else if (g_str_equal(element, "Contents") && g_str_equal(parent(c), "ListBucketResult")) {
                r->entry = object_entry_new("", 0, 0);
                r->dated = FALSE;
                g_ptr_array_add(r->list.entries, r->entry);
        }
}

static void on_text(GMarkupParseContext *c, const char *text, gsize len, gpointer user, GError **error)
{
        g_string_append_len(((struct reading *)user)->text, text, (gssize)len);
}

static void read_member(struct reading *r, const char *element)
{
        g_autoptr(GDateTime) at = NULL;

        if (g_str_equal(element, "Key")) {
                g_free(r->entry->key);
                r->entry->key = g_strdup(r->text->str);
        } else if (g_str_equal(element, "Size")) {
                if (!g_ascii_string_to_unsigned(r->text->str, 10, 0, G_MAXINT64, &r->entry->size, NULL))
                        r->why = "an object has no size that one can have";
        } else if (g_str_equal(element, "LastModified")) {
                at = g_date_time_new_from_iso8601(r->text->str, NULL);
                if (at)
                        r->entry->modified_s = g_date_time_to_unix(at);
                r->dated = at != NULL;
        }
}

static void on_end(GMarkupParseContext *c, const char *element, gpointer user, GError **error)
{
        struct reading *r = user;

        if (r->entry && g_str_equal(parent(c), "Contents")) {
                read_member(r, element);
        } else if (r->entry && g_str_equal(element, "Contents")) {
                if (!*r->entry->key || !r->dated)
                        r->why = "an object has no name, or no date";
                r->entry = NULL;
        } else if (g_str_equal(parent(c), "ListBucketResult")) {
                if (g_str_equal(element, "IsTruncated"))
                        r->truncated = g_str_equal(r->text->str, "true");
                else if (g_str_equal(element, "NextContinuationToken")) {
                        g_free(r->list.next);
                        r->list.next = g_strdup(r->text->str);
                }
        }
        g_string_truncate(r->text, 0);
}

const char *s3_list_parse(const char *xml, gsize len, S3List *ret)
{
        static const GMarkupParser parser = {on_start, on_end, on_text, NULL, NULL};
        g_autoptr(GString) text = g_string_new(NULL);
        struct reading r = {.list.entries = g_ptr_array_new_with_free_func(object_entry_free), .text = text};
        g_autoptr(GMarkupParseContext) c = g_markup_parse_context_new(&parser, 0, &r, NULL);

        if (!g_markup_parse_context_parse(c, xml, (gssize)len, NULL) ||
            !g_markup_parse_context_end_parse(c, NULL))
                r.why = "it is no XML that ends";
        else if (!r.why && r.truncated != (r.list.next && *r.list.next))
                r.why = "it does not say how to go on";
        if (r.why) {
                s3_list_clear(&r.list);
                return r.why;
        }
        *ret = r.list;
        return NULL;
}
