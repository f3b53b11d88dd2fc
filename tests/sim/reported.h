/* tests/sim/reported.h - what the host says of a push, against what is true in the guest. */
#pragma once

#include "host-service/catalogue/pushes.h"
#include "tests/sim/vm.h"

/* The push of @operation to @vm has just ended, by its record. */
void reported_check(World *w, Catalogue *c, const char *operation, Vm *vm);
/* Likewise, long after the last fault: every record of the VM, and what the catalogue says that it runs. */
void reported_check_vm(World *w, Catalogue *c, Vm *vm);
