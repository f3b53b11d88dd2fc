/* tests/unit/test_s3_list.c - answers to ListObjectsV2: what AWS, Swift and others say, and what is none. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "host-service/s3_list.h"

TestSuite(s3_list, .timeout = 60);

#define HEAD                                                                                                 \
        "<?xml version='1.0' encoding='UTF-8'?>\n<ListBucketResult "                                         \
        "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
#define OBJECT(key, date, size)                                                                              \
        "<Contents><Key>" key "</Key><LastModified>" date                                                    \
        "</LastModified><ETag>&quot;e&quot;</ETag><Size>" size "</Size><Owner><ID>x</ID></Owner></Contents>"
#define DATE "2024-02-29T12:00:01.000Z"

static const struct object_entry *entry(const S3List *l, guint i)
{
        return l->entries->pdata[i];
}

Test(s3_list, objects_have_their_key_date_and_size)
{
        const char *xml = HEAD "<Name>b</Name><Prefix>m/</Prefix><IsTruncated>false</IsTruncated>" OBJECT(
                "m/chunks/a&amp;b", DATE, "123")
                OBJECT("m/c", "2024-02-29T12:00:02Z", "0") "</ListBucketResult>";
        g_auto(S3List) l = {0};

        cr_assert_eq(s3_list_parse(xml, strlen(xml), &l), NULL);
        cr_assert_eq(l.entries->len, 2u);
        cr_expect_str_eq(entry(&l, 0)->key, "m/chunks/a&b");
        cr_expect_eq(entry(&l, 0)->size, 123u);
        cr_expect_eq(entry(&l, 0)->modified_s, 1709208001);
        cr_expect_eq(entry(&l, 1)->modified_s, 1709208002);
        cr_expect_eq(l.next, NULL);
}

Test(s3_list, a_page_names_the_next_one)
{
        const char *xml =
                HEAD "<IsTruncated>true</IsTruncated><NextContinuationToken>a+/=</NextContinuationToken>"
                     "</ListBucketResult>";
        g_auto(S3List) l = {0};

        cr_assert_eq(s3_list_parse(xml, strlen(xml), &l), NULL);
        cr_expect_str_eq(l.next, "a+/=");
        cr_expect_eq(l.entries->len, 0u);
}

Test(s3_list, what_is_none_is_refused)
{
        static const char *const bad[] = {
                "",
                "no xml",
                "<Error><Code>SlowDown</Code></Error>",
                HEAD,
                HEAD "<IsTruncated>true</IsTruncated></ListBucketResult>",
                HEAD "<NextContinuationToken>x</NextContinuationToken></ListBucketResult>",
                HEAD OBJECT("", DATE, "1") "</ListBucketResult>",
                HEAD OBJECT("k", "yesterday", "1") "</ListBucketResult>",
                HEAD OBJECT("k", DATE, "-1") "</ListBucketResult>",
                HEAD "<Contents><Key>k</Key><Size>1</Size></Contents></ListBucketResult>",
        };

        for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_auto(S3List) l = {0};

                cr_expect_neq(s3_list_parse(bad[i], strlen(bad[i]), &l), NULL, "%s", bad[i]);
                cr_expect_eq(l.entries, NULL);
        }
}
