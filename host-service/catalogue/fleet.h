/* host-service/catalogue/fleet.h - how each VM is, at a glance: what is under way, how the last push went. */
#pragma once

#include "host-service/catalogue/drift.h"
#include "host-service/catalogue/pushes.h"
#include "host-service/catalogue/vms.h"

typedef struct fleet_row {
        VmRecord *vm;
        PushRecord *last;      /* the newest that has ended, skipped and dry ones aside; or NULL */
        guint pending;         /* that have not, waiting ones of rollouts too */
        gboolean stale_counts; /* the VM has not been booted since `last` told who runs old code */
        struct drift_record drift;
} FleetRow;
void fleet_row_free(FleetRow *r);

/* The VMs with every label of @labels (JSON, as catalogue_vm_select()), by name: of FleetRow, owned. */
GPtrArray *catalogue_fleet(Catalogue *c, const char *labels, GError **error);
