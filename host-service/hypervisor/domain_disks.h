/* host-service/hypervisor/domain_disks.h - the files of a libvirt domain's disks, in its XML: pure.
 *
 * What is asked and answered is JSON, as in host-service/env.h (VirtDisks). Disks are known by their targets
 * ("vda"). */
#pragma once

#include <glib.h>

/* The answer to VIRT_DISKS_ASK. @live, @defined: XML, or NULL. Newly allocated; MALFORMED. */
char *domain_disks_tell(const char *live, const char *defined, gboolean saved, GError **error);
/* The definition @xml with the files of VIRT_DISKS_DEFINE, and without what libvirt has written there about
 * what they stand on: it finds that out by their headers when it starts the domain. Newly allocated; "" if it
 * is so already. REFUSED, NOT_FOUND, MALFORMED. */
char *domain_disks_define(const char *xml, const char *changes, GError **error);
/* The <domainsnapshot> for VIRT_DISKS_SWITCH: all other disks of the domain @live stay as they are. Newly
 * allocated; NOT_FOUND, MALFORMED. */
char *domain_disks_switch(const char *live, const char *changes, GError **error);
