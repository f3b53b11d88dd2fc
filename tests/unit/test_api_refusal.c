/* tests/unit/test_api_refusal.c - single values of requests, and bodies before a parser sees them. */
#include "host-service/api/refusal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

TestSuite(api_refusal, .timeout = 60);

typedef const char *(*refusal_func)(const char *text);

static void expect(refusal_func f, gboolean good, const char *const *texts)
{
        for (; *texts; texts++)
                cr_expect(eq(int, f(*texts) == NULL, good), "\"%s\"", *texts);
}

#define GOOD(f, ...) expect(f, TRUE, (const char *const[]){__VA_ARGS__, NULL})
#define BAD(f, ...)  expect(f, FALSE, (const char *const[]){__VA_ARGS__, NULL})
#define TEXT_64      "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"

Test(api_refusal, names_of_vms)
{
        GOOD(vm_name_refusal, "a", "web-1", "9", "A.b_c-d", TEXT_64);
        BAD(vm_name_refusal, "", "-a", ".a", "a b", "a/b", "a\n", "\xc3\xa4", TEXT_64 "e", "..", "a=b");
}

Test(api_refusal, libvirts_and_domains)
{
        GOOD(libvirt_uri_refusal, "qemu:///system", "qemu:///session", "qemu+unix:///system?socket=/run/x",
             "qemu+ssh://root@host:22/system?keyfile=/k&no_tty=1", "qemu+tls://[::1]/system?pkipath=/p");
        BAD(libvirt_uri_refusal, "", "qemu", "/run/x", "xen:///", "qemu+ext:///system?command=/bin/sh",
            "qemu+ssh://h/system?command=/bin/sh", "qemu+ssh://h/system?netcat=/bin/sh",
            "qemu+ssh://h/system?%63ommand=/bin/sh", "qemu+ssh://h/system?COMMAND=/bin/sh",
            "qemu+ssh://h/system?no_tty=1;command=x", "qemu+ssh://-oProxyCommand=x/system",
            "qemu+ssh://-l@h/system", "qemu:///system?x=%");
        GOOD(domain_refusal, "a", "web 1", "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
        BAD(domain_refusal, "", "a/b", "a\n", "\x7f");
}

Test(api_refusal, labels)
{
        GOOD(label_key_refusal, "role", "app.kubernetes.io/name", "A_1-b");
        BAD(label_key_refusal, "", "a b", "a=b", "a,b", "\xc3\xa4", TEXT_64);
        GOOD(label_refusal, "a=b", "site=eu-1", "image=reg/x:1+b@s");
        BAD(label_refusal, "", "a", "=b", "a=", "a=b=c", "a=b,c=d", "a:b=c", "a=b\n", "a=" TEXT_64);
        GOOD(labels_refusal, "a=b", "a=b,c=d");
        BAD(labels_refusal, "", ",", "a=b,", ",a=b", "a=b,,c=d", "a,b=c", "a=b=c,d=e");
}

Test(api_refusal, names_and_versions_of_releases)
{
        GOOD(release_name_refusal, "a", "libssl3", "c++-x.y", TEXT_64);
        BAD(release_name_refusal, "", "A", "-a", "a_b", "a=1", TEXT_64 "e", "a/b");
        GOOD(release_version_refusal, "1", "3.0.17-1~deb12u2", "1:2+b1", "A");
        BAD(release_version_refusal, "", "~1", "1_2", "1 2", "../1", TEXT_64 "e");
        GOOD(release_spec_refusal, "app", "app=1", "app=1:2~rc1");
        BAD(release_spec_refusal, "", "=1", "app=", "app==1", "app=1=2", "APP=1", TEXT_64 "e=1");
}

Test(api_refusal, paths)
{
        char longest[108], too_long[109];

        memset(longest, 'a', sizeof longest);
        memset(too_long, 'a', sizeof too_long);
        longest[0] = too_long[0] = '/';
        longest[107] = too_long[108] = '\0';
        GOOD(socket_path_refusal, "/a", longest);
        BAD(socket_path_refusal, "", "/", "a", "./a", "/a\nb", "/a\x7f", too_long);
        GOOD(file_path_refusal, "/a", "/a b", "/\xc3\xa4");
        BAD(file_path_refusal, "", "a", "~/a");
}

Test(api_refusal, secrets_and_keys)
{
        GOOD(join_token_refusal, "0123456789abcdef", TEXT_64 TEXT_64);
        BAD(join_token_refusal, "", "0123456789abcde", "0123456789abcde f", TEXT_64 TEXT_64 "e",
            "0123456789abcde\xc3\xa4", "moult1:0123456789abcdef");
        GOOD(idempotency_key_refusal, "a", TEXT_64 TEXT_64);
        BAD(idempotency_key_refusal, "", "a b", "a\tb", TEXT_64 TEXT_64 "e");
}

Test(api_refusal, words)
{
        GOOD(transport_refusal, "auto", "ivshmem", "pmem", "virtio-serial", "tls");
        BAD(transport_refusal, "", "AUTO", "serial");
        GOOD(sync_mode_refusal, "fast", "gentle");
        BAD(sync_mode_refusal, "", "slow");
        GOOD(operation_state_refusal, "queued", "partial");
        BAD(operation_state_refusal, "", "done");
        GOOD(operation_kind_refusal, "push", "rollout", "release-verify", "store-verify", "store-gc",
             "store-pull");
        BAD(operation_kind_refusal, "", "rollouts");
        GOOD(operation_id_refusal, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        BAD(operation_id_refusal, "", "01arz3ndektsv4rrffq69g5fav", "81ARZ3NDEKTSV4RRFFQ69G5FAV");
}

static const char *json(const char *text)
{
        return json_text_refusal(text, strlen(text));
}

Test(api_refusal, json_is_only_what_the_standard_says)
{
        cr_expect(eq(ptr, (void *)json("{\"a\": [1, -2.5e+3, true, false, null, \"\\\"]}\"]}"), NULL));
        cr_expect(eq(ptr, (void *)json("{\"\\\\\": 1}"), NULL));
        cr_expect(ne(ptr, (void *)json("{'a': 1}"), NULL));
        cr_expect(ne(ptr, (void *)json("{} // x"), NULL));
        cr_expect(ne(ptr, (void *)json("/* \" */ {}"), NULL));
        cr_expect(ne(ptr, (void *)json("var x = {}"), NULL));
        cr_expect(ne(ptr, (void *)json("{\"a\": \"x\ny\"}"), NULL));
        cr_expect(ne(ptr, (void *)json("{\"a\": \"\\u0000\"}"), NULL));
        cr_expect(ne(ptr, (void *)json("{\"a\": \"\\"), NULL));
        cr_expect(ne(ptr, (void *)json("{\"a\": \"\xff\"}"), NULL));
        cr_expect(ne(ptr, (void *)json("[1"), NULL));
        cr_expect(ne(ptr, (void *)json("\"abc"), NULL));
        cr_expect(ne(ptr, (void *)json_text_refusal("{\0}", 3), NULL));
}

Test(api_refusal, json_is_not_nested_deeper_than_a_parser_can_bear)
{
        g_autoptr(GString) s = g_string_new(NULL);

        for (int i = 0; i < 16; i++)
                g_string_append_c(s, '[');
        for (int i = 0; i < 16; i++)
                g_string_append_c(s, ']');
        cr_expect(eq(ptr, (void *)json(s->str), NULL));
        g_string_prepend_c(s, '[');
        g_string_append_c(s, ']');
        cr_expect(eq(str, (char *)json(s->str), "the body is nested too deeply"));
        /* Brackets in texts are texts. */
        cr_expect(eq(ptr, (void *)json("{\"a\": \"[[[[[[[[[[[[[[[[[[[[[[[[[[\"}"), NULL));
}
