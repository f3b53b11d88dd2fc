/* tests/unit/test_hypervisor_domain_xml.c - what is added to a domain's XML, what is refused, what stays as
 * it was. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/domain_xml.h"

#define PCIE    "    <controller type='pci' index='0' model='pcie-root'/>\n"
#define CHANNEL "    <channel type='unix'><target type='virtio' name='org.moult.agent.0'/></channel>\n"
#define DOMAIN(DEVICES)                                                                                      \
        "<domain type='kvm'>\n  <name>a &amp; b</name>\n  <devices>\n" DEVICES "  </devices>\n</domain>\n"

static const struct domain_needs needs = {.ports = 2, .reserve_bytes = UINT64_C(4) << 30};

static guint count(const char *text, const char *what)
{
        guint n = 0;

        for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
                n++;
        return n;
}

Test(domain_xml, adds_channel_ports_and_their_reserve_once)
{
        gboolean changed = FALSE;
        g_autofree char *once = domain_xml_prepare(DOMAIN(PCIE), &needs, &changed, NULL);
        g_autofree char *twice = NULL, *path = NULL;

        cr_assert(ne(ptr, once, NULL));
        cr_expect(changed);
        cr_expect(eq(u32, count(once, "org.moult.agent.0"), 1));
        cr_expect(eq(u32, count(once, "pcie-root-port"), 2));
        cr_expect(eq(u32, count(once, "name=\"pref64-reserve\" type=\"unsigned\" value=\"4294967296\""), 2));
        cr_expect(eq(u32, count(once, "a &amp; b"), 1));
        cr_expect(eq(u32, domain_xml_ports(once), 2));
        cr_expect(domain_xml_channel(once, DOMAIN_CHANNEL, &path, NULL));
        twice = domain_xml_prepare(once, &needs, &changed, NULL);
        cr_expect(not(changed));
        cr_expect(eq(str, twice, once));
}

/* What it declares would be lost when the definition is written back. */
Test(domain_xml, refuses_a_document_type)
{
        gboolean changed;
        g_autoptr(GError) error = NULL;
        g_autofree char *path = NULL;
        const char *xml = "<!DOCTYPE d [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>" DOMAIN(PCIE CHANNEL);

        cr_expect(eq(ptr, domain_xml_prepare(xml, &needs, &changed, &error), NULL));
        cr_expect(g_error_matches(error, MOULT_ERROR, MOULT_ERROR_MALFORMED), "%s",
                  error ? error->message : "");
        cr_expect(not(domain_xml_channel(xml, DOMAIN_CHANNEL, &path, NULL)));
}

Test(domain_xml, only_adds_lines)
{
        gboolean changed;
        g_autofree char *before = domain_xml_normalise(DOMAIN(PCIE), NULL);
        g_autofree char *after = domain_xml_prepare(DOMAIN(PCIE), &needs, &changed, NULL);
        g_auto(GStrv) old = g_strsplit(before, "\n", -1), new = g_strsplit(after, "\n", -1);
        guint at = 1; /* the first has the name space now */

        for (guint i = 1; new[i] && old[at]; i++)
                at += g_str_equal(new[i], old[at]);
        cr_expect(eq(ptr, old[at], NULL), "%s is missing in\n%s", old[at], after);
}

Test(domain_xml, keeps_what_an_operator_chose)
{
        static const char chosen[] =
                "<domain type='kvm' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><devices>" PCIE
                "<controller type='pci' model='pcie-root-port'><alias name='ua-moult-rp5'/></controller>"
                "</devices><q:override><q:device alias='ua-moult-rp5'><q:frontend><q:property "
                "name='pref64-reserve' type='unsigned' "
                "value='77'/></q:frontend></q:device></q:override></domain>";
        gboolean changed;
        g_autofree char *xml = domain_xml_prepare(chosen, &needs, &changed, NULL);

        cr_expect(changed);
        cr_expect(eq(u32, count(xml, "ua-moult-rp5"), 2));
        cr_expect(eq(u32, count(xml, "value=\"77\""), 1));
        cr_expect(eq(u32, count(xml, "pref64-reserve"), 2), "%s", xml);
        cr_expect(eq(u32, count(xml, "<q:override>"), 1));
}

Test(domain_xml, without_ports_only_the_channel)
{
        const struct domain_needs channel_only = {0};
        gboolean changed;
        g_autofree char *xml = domain_xml_prepare(DOMAIN(""), &channel_only, &changed, NULL);

        cr_expect(changed);
        cr_expect(eq(u32, count(xml, "controller"), 0));
        cr_expect(eq(u32, count(xml, "override"), 0));
}

struct refused {
        char xml[420], word[40];
};

ParameterizedTestParameters(domain_xml, refuses)
{
        static struct refused cases[] = {
                {"", "no domain"},
                {"<domain", "no domain"},
                {"<network/>", "no domain"},
                {"<domain type='xen'><devices/></domain>", "QEMU"},
                {"<domain type='kvm'/>", "devices"},
                {DOMAIN(""), "PCI Express"},
                {DOMAIN(PCIE CHANNEL CHANNEL), "more than one"},
                {DOMAIN(PCIE
                        "<channel type='pty'><target type='virtio' name='org.moult.agent.0'/></channel>"),
                 "type unix"},
                {DOMAIN(PCIE
                        "<channel type='unix'><target type='guestfwd' name='org.moult.agent.0'/></channel>"),
                 "type unix"},
        };
        return cr_make_param_array(struct refused, cases, G_N_ELEMENTS(cases));
}

ParameterizedTest(struct refused *c, domain_xml, refuses)
{
        gboolean changed;
        g_autoptr(GError) error = NULL;
        g_autofree char *xml = domain_xml_prepare(c->xml, &needs, &changed, &error);

        cr_assert(eq(ptr, xml, NULL));
        cr_expect(ne(ptr, strstr(error->message, c->word), NULL), "%s", error->message);
}

Test(domain_xml, tells_where_the_channel_is)
{
        g_autofree char *none = NULL, *path = NULL;
        gboolean connected = TRUE;

        cr_expect(not(domain_xml_channel(DOMAIN(PCIE), DOMAIN_CHANNEL, &none, &connected)));
        cr_expect(eq(ptr, none, NULL));
        cr_expect(not(connected));
        cr_expect(domain_xml_channel(
                DOMAIN("<channel type='unix'><source mode='bind' path='/run/x'/><target type='virtio' "
                       "name='org.moult.agent.0' state='connected'/></channel>"),
                DOMAIN_CHANNEL, &path, &connected));
        cr_expect(eq(str, path, "/run/x"));
        cr_expect(connected);
}
