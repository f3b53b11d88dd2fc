/* host-service/release/build_per_vm.h - files that are one machine's own, which a release must not spread. */
#pragma once

/* Pure: NULL, or why @path (below the root, no leading '/') belongs to one machine alone. Not for
 * directories. */
const char *build_per_vm_reason(const char *path);
