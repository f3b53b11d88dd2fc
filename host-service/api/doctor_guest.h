/* host-service/api/doctor_guest.h - what a guest told, as JSON. */
#pragma once

#include <json-glib/json-glib.h>

#include "host-service/doctor/guest_checks.h"

/* All of f->told, which is not NULL; texts as they can be shown. Owned by the caller. */
JsonObject *doctor_guest_json(const struct guest_facts *f);
