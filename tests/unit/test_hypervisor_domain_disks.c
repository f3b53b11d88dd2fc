/* tests/unit/test_hypervisor_domain_disks.c - files of a domain's disks: told, changed, switched; or refused.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/domain_disks.h"

#define DISK(TARGET, FILE, MORE)                                                                             \
        "<disk type='file'><driver name='qemu' type='raw'/><source file='" FILE "'/>" MORE                   \
        "<target dev='" TARGET "' bus='virtio'/></disk>"
#define BACKING       "<backingStore type='file'><format type='qcow2'/><source file='/d/w'/></backingStore>"
#define DOMAIN(DISKS) "<domain type='kvm'><name>a</name><devices>" DISKS "</devices></domain>"
#define TWO           DOMAIN(DISK("vda", "/d/w", BACKING) DISK("vdb", "/d/v&amp;", ""))
#define CD            "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
#define CHANGE        "{\"vda\": {\"to\": \"/d/n\", \"format\": \"qcow2\", \"from\": [\"/d/w\", \"/d/l\"]}}"

TestSuite(domain_disks, .timeout = 10);

Test(domain_disks, tells_files_by_target)
{
        g_autofree char *both = domain_disks_tell(TWO, DOMAIN(DISK("vda", "/d/x", "") CD), TRUE, NULL);
        g_autofree char *off = domain_disks_tell(NULL, NULL, FALSE, NULL);

        cr_expect(eq(str, both,
                     (char *)"{\"live\":{\"vda\":\"/d/w\",\"vdb\":\"/d/v&\"},\"copies\":{},"
                             "\"defined\":{\"vda\":\"/d/x\"},\"saved\":true}"));
        cr_expect(eq(str, off, (char *)"{\"saved\":false}"));
}

Test(domain_disks, a_definition_names_the_new_file_and_nothing_below)
{
        g_autofree char *once = domain_disks_define(TWO, CHANGE, NULL);
        g_autofree char *twice = once ? domain_disks_define(once, CHANGE, NULL) : NULL;

        cr_assert(ne(ptr, once, NULL));
        cr_expect(ne(ptr, strstr(once, "<source file=\"/d/n\"/>"), NULL), "%s", once);
        cr_expect(ne(ptr, strstr(once, "type=\"qcow2\""), NULL));
        cr_expect(eq(ptr, strstr(once, "backingStore"), NULL));
        cr_expect(ne(ptr, strstr(once, "/d/v&amp;"), NULL));
        cr_expect(eq(str, twice, (char *)""), "nothing is left to change");
}

Test(domain_disks, another_s_file_and_a_disk_that_is_not_there_are_refused)
{
        g_autoptr(GError) foreign = NULL, none = NULL, odd = NULL;

        cr_expect(eq(ptr, domain_disks_define(DOMAIN(DISK("vda", "/d/x", "")), CHANGE, &foreign), NULL));
        cr_expect(g_error_matches(foreign, MOULT_ERROR, MOULT_ERROR_REFUSED));
        cr_expect(eq(ptr, domain_disks_define(DOMAIN(""), CHANGE, &none), NULL));
        cr_expect(g_error_matches(none, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        cr_expect(eq(ptr, domain_disks_tell("<network/>", NULL, FALSE, &odd), NULL));
        cr_expect(g_error_matches(odd, MOULT_ERROR, MOULT_ERROR_MALFORMED));
}

Test(domain_disks, a_switch_leaves_the_other_disks_alone)
{
        g_autofree char *xml = domain_disks_switch(TWO, "{\"vda\":\"/d/n&1\"}", NULL);
        g_autoptr(GError) none = NULL;

        cr_assert(ne(ptr, xml, NULL));
        cr_expect(ne(ptr,
                     strstr(xml, "<disk name=\"vda\" snapshot=\"external\"><driver type=\"qcow2\"/>"
                                 "<source file=\"/d/n&amp;1\"/></disk><disk name=\"vdb\" snapshot=\"no\"/>"),
                     NULL),
                  "%s", xml);
        cr_expect(eq(ptr, domain_disks_switch(TWO, "{\"vdz\":\"/d/n\"}", &none), NULL));
        cr_expect(g_error_matches(none, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
}

#define MIRROR(JOB, FILE, READY)                                                                             \
        "<mirror type='file' job='" JOB "'" READY "><format type='qcow2'/><source file='" FILE "'/></"       \
        "mirror>"
#define COPIED(MORE) DOMAIN(DISK("vda", "/d/w", MORE) DISK("vdb", "/d/v", ""))

Test(domain_disks, tells_copies_and_not_other_jobs)
{
        g_autofree char *under_way = domain_disks_tell(COPIED(MIRROR("copy", "/d/n", "")), NULL, FALSE, NULL);
        g_autofree char *ready =
                domain_disks_tell(COPIED(MIRROR("copy", "/d/n", " ready='yes'")), NULL, FALSE, NULL);
        g_autofree char *commit =
                domain_disks_tell(COPIED(MIRROR("active-commit", "/d/n", " ready='yes'")), NULL, FALSE, NULL);

        cr_expect(ne(ptr, strstr(under_way, "\"copies\":{\"vda\":{\"to\":\"/d/n\",\"ready\":false}}"), NULL),
                  "%s", under_way);
        cr_expect(ne(ptr, strstr(ready, "\"copies\":{\"vda\":{\"to\":\"/d/n\",\"ready\":true}}"), NULL), "%s",
                  ready);
        cr_expect(ne(ptr, strstr(commit, "\"copies\":{}"), NULL), "%s", commit);
}

Test(domain_disks, a_copy_is_told_all_that_it_stands_on)
{
        g_autofree char *xml =
                domain_disks_copy("{\"target\":\"vda\",\"to\":\"/d/n&\",\"below\":[{\"file\":\"/d/r\","
                                  "\"format\":\"qcow2\"},{\"file\":\"/b\",\"format\":\"raw\"}]}",
                                  NULL);
        g_autofree char *alone = domain_disks_copy("{\"target\":\"vda\",\"to\":\"/d/n\"}", NULL);
        g_autoptr(GError) odd = NULL;

        cr_assert(ne(ptr, xml, NULL));
        cr_expect(ne(ptr,
                     strstr(xml,
                            "<driver type=\"qcow2\"/><source file=\"/d/n&amp;\"/><backingStore type=\"file\">"
                            "<format type=\"qcow2\"/><source file=\"/d/r\"/><backingStore type=\"file\">"
                            "<format type=\"raw\"/><source file=\"/b\"/><backingStore/></backingStore>"
                            "</backingStore>"),
                     NULL),
                  "%s", xml);
        cr_expect(ne(ptr, strstr(alone, "<source file=\"/d/n\"/><backingStore/>"), NULL), "%s", alone);
        cr_expect(eq(ptr, domain_disks_copy("{\"to\":\"/d/n\"}", &odd), NULL));
        cr_expect(g_error_matches(odd, MOULT_ERROR, MOULT_ERROR_MALFORMED));
}

static DomainCopy find(const char *live, const char *target)
{
        g_autofree char *copy = g_strdup_printf("{\"target\":\"%s\",\"to\":\"/d/n\"}", target), *is = NULL;
        DomainCopy found;

        cr_assert(domain_disks_find_copy(live, copy, &found, &is, NULL));
        cr_expect(eq(str, is, (char *)target));
        return found;
}

Test(domain_disks, a_copy_is_ours_if_it_goes_to_our_file)
{
        g_autofree char *target = NULL;
        g_autoptr(GError) none = NULL;
        DomainCopy found;

        cr_expect(eq(int, find(COPIED(""), "vda"), DOMAIN_COPY_NONE));
        cr_expect(eq(int, find(COPIED(MIRROR("copy", "/d/n", "")), "vda"), DOMAIN_COPY_UNDER_WAY));
        cr_expect(eq(int, find(COPIED(MIRROR("copy", "/d/n", " ready='yes'")), "vda"), DOMAIN_COPY_READY));
        cr_expect(eq(int, find(COPIED(MIRROR("copy", "/d/o", " ready='yes'")), "vda"), DOMAIN_COPY_OTHER));
        cr_expect(eq(int, find(COPIED(MIRROR("active-commit", "/d/n", "")), "vda"), DOMAIN_COPY_OTHER));
        cr_expect(eq(int, find(COPIED(MIRROR("copy", "/d/n", "")), "vdb"), DOMAIN_COPY_NONE));
        cr_expect(not(
                domain_disks_find_copy(TWO, "{\"target\":\"vdz\",\"to\":\"/d/n\"}", &found, &target, &none)));
        cr_expect(g_error_matches(none, MOULT_ERROR, MOULT_ERROR_NOT_FOUND));
        cr_expect(domain_disks_copies(COPIED(MIRROR("copy", "/d/n", ""))));
        cr_expect(not(domain_disks_copies(COPIED(MIRROR("copy", "/d/n", " ready='yes'")))));
        cr_expect(not(domain_disks_copies(COPIED(""))));
}
