/* host-service/hypervisor/libvirt_uri.h - what a libvirt's URI says: pure. */
#pragma once

#include <glib.h>

/* It is the libvirt of this machine, whose domains' files are here. */
gboolean libvirt_uri_is_local(const char *uri);
