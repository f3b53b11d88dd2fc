/* tests/fuzz/fuzz_domain_xml.c - a domain's XML, as a libvirt (perhaps a remote one) hands it out: read,
 * prepared, and prepared once more.
 *
 * Also checked: what was prepared has the channel and the ports that were asked for, and preparing it again
 * changes nothing. */
#include <stdint.h>
#include <string.h>

#include "common/error.h"
#include "host-service/hypervisor/domain_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void prepare(const char *xml, guint ports)
{
        const struct domain_needs needs = {.ports = ports, .reserve_bytes = UINT64_C(1) << 30};
        gboolean changed = TRUE;
        g_autoptr(GError) error = NULL;
        g_autofree char *once = domain_xml_prepare(xml, &needs, &changed, &error);
        g_autofree char *twice = NULL, *same = NULL, *path = NULL;

        if (!once) {
                g_assert(error->domain == MOULT_ERROR && *error->message);
                return;
        }
        g_assert(!error && domain_xml_channel(once, DOMAIN_CHANNEL, &path, NULL));
        g_assert(domain_xml_ports(once) >= ports);
        twice = domain_xml_prepare(once, &needs, &changed, NULL);
        g_assert(twice && !changed && g_str_equal(twice, once));
        same = domain_xml_normalise(once, NULL);
        g_assert(same && g_str_equal(same, once));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autofree char *xml = g_strndup(size ? (const char *)data : "", size), *path = NULL;
        gboolean connected;

        if (domain_xml_channel(xml, DOMAIN_CHANNEL, &path, &connected))
                g_assert(!path || *path);
        domain_xml_ports(xml);
        prepare(xml, 0);
        prepare(xml, DOMAIN_PORTS_DEFAULT);
        return 0;
}
