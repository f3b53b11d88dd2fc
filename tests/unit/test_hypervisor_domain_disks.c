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
                     (char *)"{\"live\":{\"vda\":\"/d/w\",\"vdb\":\"/d/v&\"},\"defined\":{\"vda\":\"/d/"
                             "x\"},\"saved\":true}"));
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
