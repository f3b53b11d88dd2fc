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
/* The <disk> for VIRT_DISKS_COPY. Newly allocated; MALFORMED. */
char *domain_disks_copy(const char *copy, GError **error);
/* The copy that the disk of VIRT_DISKS_PIVOT or _DROP is being made of, by the domain's XML @live. */
typedef enum {
        DOMAIN_COPY_NONE,  /* there is none */
        DOMAIN_COPY_OTHER, /* to another file, or another job: somebody else's */
        DOMAIN_COPY_UNDER_WAY,
        DOMAIN_COPY_READY, /* both are the same, and stay so */
} DomainCopy;
/* *@ret_target is newly allocated. FALSE: NOT_FOUND, MALFORMED. */
gboolean domain_disks_find_copy(const char *live, const char *copy, DomainCopy *ret, char **ret_target,
                                GError **error);
/* Whether any disk is being copied, and the copy is not ready yet. */
gboolean domain_disks_copies(const char *live);
